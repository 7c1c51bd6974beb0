CREATE TABLE trades (
	id INTEGER NOT NULL,
	exchange VARCHAR(25) NOT NULL,
	pair VARCHAR(25) NOT NULL,
	base_currency VARCHAR(25),
	stake_currency VARCHAR(25),
	is_open BOOLEAN NOT NULL,
	fee_open FLOAT NOT NULL,
	fee_open_cost FLOAT,
	fee_open_currency VARCHAR(25),
	fee_close FLOAT NOT NULL,
	fee_close_cost FLOAT,
	fee_close_currency VARCHAR(25),
	open_rate FLOAT NOT NULL,
	open_rate_requested FLOAT,
	open_trade_value FLOAT,
	close_rate FLOAT,
	close_rate_requested FLOAT,
	realized_profit FLOAT,
	close_profit FLOAT,
	close_profit_abs FLOAT,
	stake_amount FLOAT NOT NULL,
	max_stake_amount FLOAT,
	amount FLOAT NOT NULL,
	amount_requested FLOAT,
	open_date DATETIME NOT NULL,
	close_date DATETIME,
	stop_loss FLOAT,
	stop_loss_pct FLOAT,
	initial_stop_loss FLOAT,
	initial_stop_loss_pct FLOAT,
	is_stop_loss_trailing BOOLEAN NOT NULL,
	max_rate FLOAT,
	min_rate FLOAT,
	exit_reason VARCHAR(255),
	exit_order_status VARCHAR(100),
	strategy VARCHAR(100),
	enter_tag VARCHAR(255),
	timeframe INTEGER,
	trading_mode VARCHAR(7),
	amount_precision FLOAT,
	price_precision FLOAT,
	precision_mode INTEGER,
	precision_mode_price INTEGER,
	contract_size FLOAT,
	leverage FLOAT,
	is_short BOOLEAN NOT NULL,
	liquidation_price FLOAT,
	interest_rate FLOAT NOT NULL,
	funding_fees FLOAT,
	funding_fee_running FLOAT,
	record_version INTEGER NOT NULL,
	PRIMARY KEY (id)
);
CREATE TABLE trade_custom_data (
	id INTEGER NOT NULL,
	ft_trade_id INTEGER,
	cd_key VARCHAR(255) NOT NULL,
	cd_type VARCHAR(25) NOT NULL,
	cd_value TEXT NOT NULL,
	created_at DATETIME NOT NULL,
	updated_at DATETIME,
	PRIMARY KEY (id),
	CONSTRAINT _trade_id_cd_key UNIQUE (ft_trade_id, cd_key),
	FOREIGN KEY(ft_trade_id) REFERENCES trades (id)
);
CREATE TABLE orders (
	id INTEGER NOT NULL,
	ft_trade_id INTEGER NOT NULL,
	ft_order_side VARCHAR(25) NOT NULL,
	ft_pair VARCHAR(25) NOT NULL,
	ft_is_open BOOLEAN NOT NULL,
	ft_amount FLOAT NOT NULL,
	ft_price FLOAT NOT NULL,
	ft_cancel_reason VARCHAR(255),
	order_id VARCHAR(255) NOT NULL,
	status VARCHAR(255),
	symbol VARCHAR(25),
	order_type VARCHAR(50),
	side VARCHAR(25),
	price FLOAT,
	average FLOAT,
	amount FLOAT,
	filled FLOAT,
	remaining FLOAT,
	cost FLOAT,
	stop_price FLOAT,
	order_date DATETIME,
	order_filled_date DATETIME,
	order_update_date DATETIME,
	funding_fee FLOAT,
	ft_fee_base FLOAT,
	ft_order_tag VARCHAR(255),
	PRIMARY KEY (id),
	CONSTRAINT _order_pair_order_id UNIQUE (ft_pair, order_id),
	FOREIGN KEY(ft_trade_id) REFERENCES trades (id)
);
CREATE INDEX ix_trades_is_open ON trades (is_open);
CREATE INDEX ix_trades_pair ON trades (pair);
CREATE INDEX ix_trade_custom_data_ft_trade_id ON trade_custom_data (ft_trade_id);
CREATE INDEX ix_orders_ft_is_open ON orders (ft_is_open);
CREATE INDEX ix_orders_ft_trade_id ON orders (ft_trade_id);
CREATE INDEX ix_orders_order_id ON orders (order_id);
INSERT INTO trades (id, exchange, pair, base_currency, stake_currency, is_open, fee_open, fee_open_cost, fee_open_currency, fee_close, fee_close_cost, fee_close_currency, open_rate, open_rate_requested, open_trade_value, close_rate, realized_profit, close_profit, close_profit_abs, stake_amount, max_stake_amount, amount, amount_requested, open_date, close_date, stop_loss, initial_stop_loss, is_stop_loss_trailing, max_rate, exit_reason, exit_order_status, strategy, enter_tag, timeframe, trading_mode, leverage, is_short, interest_rate, funding_fees, funding_fee_running, record_version)
VALUES (1, 'binance', 'BTC/USDT', 'BTC', 'USDT', 0, 0.001, 0.6, 'BNB', 0.001, 0.00103, 'BNB', 60000.0, 60000.0, 600.6, 62000.0, 18.78, 0.03126873126873127, 18.78, 600.0, 600.0, 0.01, 0.01, '2026-03-01 08:00:00.000000', '2026-03-01 13:00:30.000000', 0.0, 0.0, 0, 0.0, 'roi', 'closed', 'Trend', 'golden_cross', 5, 'SPOT', 1.0, 0, 0.0, 0.0, 0.0, 2);
INSERT INTO trades (id, exchange, pair, base_currency, stake_currency, is_open, fee_open, fee_open_cost, fee_close, open_rate, open_rate_requested, open_trade_value, close_rate, realized_profit, close_profit, close_profit_abs, stake_amount, max_stake_amount, amount, amount_requested, open_date, close_date, stop_loss, initial_stop_loss, is_stop_loss_trailing, max_rate, exit_reason, exit_order_status, strategy, enter_tag, timeframe, trading_mode, leverage, is_short, interest_rate, funding_fees, funding_fee_running, record_version)
VALUES (2, 'binance', 'ETH/USDT', 'ETH', 'USDT', 0, 0.001, 4.16, 0.001, 2971.4285714285716, 3000.0, 2676.96, 3200.0, 261.40999999999997, 0.06277616614155075, 261.40999999999997, 2674.285714285714, 4160.0, 0.9, 1.0, '2026-03-01 09:00:00.000000', '2026-03-01 12:00:30.000000', 0.0, 0.0, 0, 0.0, 'exit_signal', 'closed', 'Trend', 'dip', 5, 'SPOT', 1.0, 0, 0.0, 0.0, 0.0, 2);
INSERT INTO trades (id, exchange, pair, base_currency, stake_currency, is_open, fee_open, fee_open_cost, fee_close, open_rate, open_rate_requested, open_trade_value, close_rate, close_rate_requested, realized_profit, close_profit, close_profit_abs, stake_amount, max_stake_amount, amount, amount_requested, open_date, close_date, stop_loss, initial_stop_loss, is_stop_loss_trailing, max_rate, min_rate, exit_reason, exit_order_status, strategy, timeframe, trading_mode, leverage, is_short, interest_rate, funding_fees, funding_fee_running, record_version)
VALUES (3, 'binance', 'SOL/USDT', 'SOL', 'USDT', 0, 0.001, 1.5, 0.001, 150.0, 150.0, 1501.5, 139.9, 0.0, -103.899, -0.0691968031968032, -103.899, 1500.0, 1500.0, 10.0, 10.0, '2026-03-01 10:00:00.000000', '2026-03-01 14:00:30.000000', 0.0, 0.0, 0, 155.5, 139.0, 'stoploss_on_exchange', 'closed', 'Breakout', 5, 'SPOT', 1.0, 0, 0.0, 0.0, 0.0, 2);
INSERT INTO trades (id, exchange, pair, base_currency, stake_currency, is_open, fee_open, fee_open_cost, fee_close, open_rate, open_rate_requested, open_trade_value, realized_profit, close_profit, close_profit_abs, stake_amount, max_stake_amount, amount, amount_requested, open_date, stop_loss, initial_stop_loss, is_stop_loss_trailing, max_rate, strategy, enter_tag, timeframe, trading_mode, leverage, is_short, interest_rate, funding_fees, funding_fee_running, record_version)
VALUES (4, 'binance', 'ADA/USDT', 'ADA', 'USDT', 1, 0.001, 0.5, 0.001, 0.5, 0.5, 300.3, 39.56, 0.07904095904095905, 39.56, 300.0, 500.0, 600.0, 1000.0, '2026-03-01 11:00:00.000000', 0.0, 0.0, 0, 0.0, 'Trend', 'golden_cross', 5, 'SPOT', 1.0, 0, 0.0, 0.0, 0.0, 2);
INSERT INTO trades (id, exchange, pair, base_currency, stake_currency, is_open, fee_open, fee_close, open_rate, open_rate_requested, open_trade_value, realized_profit, stake_amount, amount, amount_requested, open_date, stop_loss, initial_stop_loss, is_stop_loss_trailing, max_rate, strategy, enter_tag, timeframe, trading_mode, leverage, is_short, interest_rate, record_version)
VALUES (5, 'binance', 'XRP/USDT', 'XRP', 'USDT', 1, 0.001, 0.001, 0.6, 0.6, 300.3, 0.0, 300.0, 500.0, 500.0, '2026-03-01 12:00:00.000000', 0.0, 0.0, 0, 0.0, 'Trend', 'golden_cross', 5, 'SPOT', 1.0, 0, 0.0, 2);
INSERT INTO trades (id, exchange, pair, base_currency, stake_currency, is_open, fee_open, fee_open_cost, fee_open_currency, fee_close, open_rate, open_rate_requested, open_trade_value, close_rate, realized_profit, close_profit, close_profit_abs, stake_amount, max_stake_amount, amount, amount_requested, open_date, close_date, stop_loss, initial_stop_loss, is_stop_loss_trailing, max_rate, exit_reason, exit_order_status, strategy, enter_tag, timeframe, trading_mode, leverage, is_short, interest_rate, funding_fees, funding_fee_running, record_version)
VALUES (6, 'binance', 'BTC/USDT:USDT', 'BTC', 'USDT', 0, 0.0005, 0.20333333333333334, 'USDT', 0.0005, 61000.0, 61000.0, 1219.39, 60000.0, 18.54, 0.04561297041963604, 18.54, 406.6666666666667, 406.6666666666667, 0.02, 0.02, '2026-03-01 13:00:00.000000', '2026-03-01 17:00:30.000000', 0.0, 0.0, 0, 0.0, 'exit_signal', 'closed', 'Trend', 'golden_cross', 5, 'FUTURES', 3.0, 1, 0.0, -0.25, 0.0, 2);
INSERT INTO trades (id, exchange, pair, base_currency, stake_currency, is_open, fee_open, fee_open_cost, fee_open_currency, fee_close, open_rate, open_rate_requested, open_trade_value, close_rate, realized_profit, close_profit, close_profit_abs, stake_amount, max_stake_amount, amount, amount_requested, open_date, close_date, stop_loss, initial_stop_loss, is_stop_loss_trailing, max_rate, exit_reason, exit_order_status, strategy, enter_tag, timeframe, trading_mode, leverage, is_short, interest_rate, funding_fees, funding_fee_running, record_version)
VALUES (7, 'binance', 'DOGE/USDT', 'DOGE', 'USDT', 0, 0.001, 0.01998, 'DOGE', 0.001, 0.2, 0.2, 19.99998, 0.21, 0.958041, 0.0479020979020979, 0.958041, 19.98, 19.98, 99.9, 100.0, '2026-03-01 14:00:00.000000', '2026-03-01 16:00:30.000000', 0.0, 0.0, 0, 0.0, 'force_exit', 'closed', 'Trend', 'golden_cross', 5, 'SPOT', 1.0, 0, 0.0, 0.0, 0.0, 2);
INSERT INTO trades (id, exchange, pair, base_currency, stake_currency, is_open, fee_open, fee_open_cost, fee_close, open_rate, open_rate_requested, open_trade_value, close_rate, realized_profit, close_profit, close_profit_abs, stake_amount, max_stake_amount, amount, amount_requested, open_date, close_date, stop_loss, initial_stop_loss, is_stop_loss_trailing, max_rate, exit_reason, exit_order_status, strategy, enter_tag, timeframe, trading_mode, leverage, is_short, interest_rate, funding_fees, funding_fee_running, record_version)
VALUES (8, 'binance', 'LTC/USDT', 'LTC', 'USDT', 0, 0.001, 0.16, 0.001, 80.0, 80.0, 160.16, 85.0, 9.67, 0.06037712287712288, 9.67, 160.0, 160.0, 2.0, 2.0, '2026-03-01 15:00:00.000000', '2026-03-01 18:00:30.000000', 0.0, 0.0, 0, 0.0, 'roi', 'closed', 'Trend', 'golden_cross', 5, 'SPOT', 1.0, 0, 0.0, 0.0, 0.0, 2);
INSERT INTO trades (id, exchange, pair, base_currency, stake_currency, is_open, fee_open, fee_close, open_rate, open_rate_requested, open_trade_value, realized_profit, stake_amount, max_stake_amount, amount, amount_requested, open_date, stop_loss, initial_stop_loss, is_stop_loss_trailing, max_rate, strategy, enter_tag, timeframe, trading_mode, leverage, is_short, interest_rate, funding_fees, funding_fee_running, record_version)
VALUES (9, 'binance', 'DOT/USDT', 'DOT', 'USDT', 1, 0.001, 0.001, 7.0, 7.0, 70.07, 0.0, 70.0, 0.0, 0.0, 10.0, '2026-03-01 16:00:00.000000', 0.0, 0.0, 0, 0.0, 'Trend', 'golden_cross', 5, 'SPOT', 1.0, 0, 0.0, 0.0, 0.0, 2);
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, price, average, amount, filled, remaining, cost, order_date, order_filled_date, order_update_date, funding_fee)
VALUES (1, 1, 'buy', 'BTC/USDT', 0, 0.01, 60000.0, '1001', 'closed', 'BTC/USDT', 'limit', 'buy', 60000.0, 60000.0, 0.01, 0.01, 0.0, 600.0, '2026-03-01 08:00:00.000000', '2026-03-01 08:00:30.000000', '2026-03-01 08:00:30.000000', 0.0);
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, price, average, amount, filled, remaining, cost, order_date, order_filled_date, order_update_date, funding_fee)
VALUES (2, 1, 'sell', 'BTC/USDT', 0, 0.01, 62000.0, '1002', 'closed', 'BTC/USDT', 'limit', 'sell', 62000.0, 62000.0, 0.01, 0.01, 0.0, 620.0, '2026-03-01 13:00:00.000000', '2026-03-01 13:00:30.000000', '2026-03-01 13:00:30.000000', 0.0);
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, price, average, amount, filled, remaining, cost, order_date, order_filled_date, order_update_date, funding_fee)
VALUES (3, 2, 'buy', 'ETH/USDT', 0, 1.0, 3000.0, '1001', 'closed', 'ETH/USDT', 'limit', 'buy', 3000.0, 3000.0, 1.0, 1.0, 0.0, 3000.0, '2026-03-01 09:00:00.000000', '2026-03-01 09:00:30.000000', '2026-03-01 09:00:30.000000', 0.0);
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, price, average, amount, filled, remaining, cost, order_date, order_filled_date, order_update_date, funding_fee, ft_order_tag)
VALUES (4, 2, 'buy', 'ETH/USDT', 0, 1.0, 2900.0, '1002', 'canceled', 'ETH/USDT', 'limit', 'buy', 2900.0, 2900.0, 1.0, 0.4, 0.6, 1160.0, '2026-03-01 10:00:00.000000', '2026-03-01 10:00:30.000000', '2026-03-01 10:00:30.000000', 0.0, 'more');
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, price, average, amount, filled, remaining, cost, order_date, order_filled_date, order_update_date, funding_fee, ft_order_tag)
VALUES (5, 2, 'sell', 'ETH/USDT', 0, 0.5, 3100.0, '1003', 'closed', 'ETH/USDT', 'limit', 'sell', 3100.0, 3100.0, 0.5, 0.5, 0.0, 1550.0, '2026-03-01 11:00:00.000000', '2026-03-01 11:00:30.000000', '2026-03-01 11:00:30.000000', 0.0, 'half');
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, price, average, amount, filled, remaining, cost, order_date, order_filled_date, order_update_date, funding_fee)
VALUES (6, 2, 'sell', 'ETH/USDT', 0, 0.9, 3200.0, '1004', 'closed', 'ETH/USDT', 'limit', 'sell', 3200.0, 3200.0, 0.9, 0.9, 0.0, 2880.0, '2026-03-01 12:00:00.000000', '2026-03-01 12:00:30.000000', '2026-03-01 12:00:30.000000', 0.0);
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, price, average, amount, filled, remaining, cost, order_date, order_filled_date, order_update_date, funding_fee)
VALUES (7, 3, 'buy', 'SOL/USDT', 0, 10.0, 150.0, '2001', 'closed', 'SOL/USDT', 'limit', 'buy', 150.0, 150.0, 10.0, 10.0, 0.0, 1500.0, '2026-03-01 10:00:00.000000', '2026-03-01 10:00:30.000000', '2026-03-01 10:00:30.000000', 0.0);
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, price, average, amount, filled, remaining, cost, stop_price, order_date, order_filled_date, order_update_date)
VALUES (8, 3, 'stoploss', 'SOL/USDT', 0, 10.0, 140.0, '2002', 'closed', 'SOL/USDT', 'stop_loss_limit', 'sell', 140.0, 139.9, 10.0, 10.0, 0.0, 1400.0, 141.0, '2026-03-01 14:00:00.000000', '2026-03-01 14:00:30.000000', '2026-03-01 14:00:30.000000');
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, price, average, amount, filled, remaining, cost, order_date, order_filled_date, order_update_date, funding_fee)
VALUES (9, 4, 'buy', 'ADA/USDT', 0, 1000.0, 0.5, '3001', 'closed', 'ADA/USDT', 'limit', 'buy', 0.5, 0.5, 1000.0, 1000.0, 0.0, 500.0, '2026-03-01 11:00:00.000000', '2026-03-01 11:00:30.000000', '2026-03-01 11:00:30.000000', 0.0);
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, price, average, amount, filled, remaining, cost, order_date, order_filled_date, order_update_date, funding_fee, ft_order_tag)
VALUES (10, 4, 'sell', 'ADA/USDT', 0, 400.0, 0.6, '3002', 'closed', 'ADA/USDT', 'limit', 'sell', 0.6, 0.6, 400.0, 400.0, 0.0, 240.0, '2026-03-01 15:00:00.000000', '2026-03-01 15:00:30.000000', '2026-03-01 15:00:30.000000', 0.0, 'half');
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, price, average, amount, filled, remaining, cost, order_date, order_update_date)
VALUES (11, 5, 'buy', 'XRP/USDT', 1, 500.0, 0.6, '4001', 'open', 'XRP/USDT', 'limit', 'buy', 0.6, 0.6, 500.0, 120.0, 380.0, 300.0, '2026-03-01 12:00:00.000000', '2026-03-01 12:00:00.000000');
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, price, average, amount, filled, remaining, cost, order_date, order_filled_date, order_update_date, funding_fee)
VALUES (12, 6, 'sell', 'BTC/USDT:USDT', 0, 0.02, 61000.0, '5001', 'closed', 'BTC/USDT:USDT', 'limit', 'sell', 61000.0, 61000.0, 0.02, 0.02, 0.0, 1220.0, '2026-03-01 13:00:00.000000', '2026-03-01 13:00:30.000000', '2026-03-01 13:00:30.000000', 0.0);
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, price, average, amount, filled, remaining, cost, order_date, order_filled_date, order_update_date, funding_fee)
VALUES (13, 6, 'buy', 'BTC/USDT:USDT', 0, 0.02, 60000.0, '5002', 'closed', 'BTC/USDT:USDT', 'limit', 'buy', 60000.0, 60000.0, 0.02, 0.02, 0.0, 1200.0, '2026-03-01 17:00:00.000000', '2026-03-01 17:00:30.000000', '2026-03-01 17:00:30.000000', -0.25);
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, average, amount, filled, remaining, cost, order_date, order_filled_date, order_update_date, funding_fee, ft_fee_base)
VALUES (14, 7, 'buy', 'DOGE/USDT', 0, 100.0, 0.2, '6001', 'closed', 'DOGE/USDT', 'market', 'buy', 0.2, 100.0, 100.0, 0.0, 0.0, '2026-03-01 14:00:00.000000', '2026-03-01 14:00:30.000000', '2026-03-01 14:00:30.000000', 0.0, 0.1);
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, average, amount, filled, remaining, cost, order_date, order_filled_date, order_update_date, funding_fee)
VALUES (15, 7, 'sell', 'DOGE/USDT', 0, 99.9, 0.2, '6002', 'closed', 'DOGE/USDT', 'market', 'sell', 0.21, 99.9, 99.9, 0.0, 20.979, '2026-03-01 16:00:00.000000', '2026-03-01 16:00:30.000000', '2026-03-01 16:00:30.000000', 0.0);
INSERT INTO orders (id, ft_trade_id, ft_order_side, ft_pair, ft_is_open, ft_amount, ft_price, order_id, status, symbol, order_type, side, price, average, amount, filled, remaining, cost, order_date, order_update_date, funding_fee)
VALUES (18, 9, 'buy', 'DOT/USDT', 0, 10.0, 7.0, '8001', 'canceled', 'DOT/USDT', 'limit', 'buy', 7.0, 7.0, 10.0, 0.0, 0.0, 0.0, '2026-03-01 16:00:00.000000', '2026-03-01 16:00:00.000000', 0.0);
INSERT INTO trade_custom_data (id, ft_trade_id, cd_key, cd_type, cd_value, created_at)
VALUES (1, 3, 'moved', 'bool', 'True', '2026-03-01 08:00:00.000000');
INSERT INTO trade_custom_data (id, ft_trade_id, cd_key, cd_type, cd_value, created_at)
VALUES (2, 3, 'moves', 'int', '3', '2026-03-01 08:00:00.000000');
INSERT INTO trade_custom_data (id, ft_trade_id, cd_key, cd_type, cd_value, created_at)
VALUES (3, 3, 'note', 'str', 'wide', '2026-03-01 08:00:00.000000');
INSERT INTO trade_custom_data (id, ft_trade_id, cd_key, cd_type, cd_value, created_at)
VALUES (4, 3, 'levels', 'dict', '{"low": 139.5}', '2026-03-01 08:00:00.000000');
