CREATE TABLE "Order" (
	id TEXT NOT NULL,
	config_file_path TEXT NOT NULL,
	strategy TEXT NOT NULL,
	market TEXT NOT NULL,
	symbol TEXT NOT NULL,
	base_asset TEXT NOT NULL,
	quote_asset TEXT NOT NULL,
	creation_timestamp BIGINT NOT NULL,
	order_type TEXT NOT NULL,
	amount BIGINT NOT NULL,
	leverage INTEGER NOT NULL,
	price BIGINT NOT NULL,
	last_status TEXT NOT NULL,
	last_update_timestamp BIGINT NOT NULL,
	exchange_order_id TEXT,
	position TEXT,
	PRIMARY KEY (id)
);
CREATE TABLE "TradeFill" (
	config_file_path TEXT NOT NULL,
	strategy TEXT NOT NULL,
	market TEXT NOT NULL,
	symbol TEXT NOT NULL,
	base_asset TEXT NOT NULL,
	quote_asset TEXT NOT NULL,
	timestamp BIGINT NOT NULL,
	order_id TEXT NOT NULL,
	trade_type TEXT NOT NULL,
	order_type TEXT NOT NULL,
	price BIGINT NOT NULL,
	amount BIGINT NOT NULL,
	leverage INTEGER NOT NULL,
	trade_fee JSON NOT NULL,
	trade_fee_in_quote BIGINT,
	exchange_trade_id TEXT NOT NULL,
	position TEXT,
	PRIMARY KEY (market, order_id, exchange_trade_id),
	FOREIGN KEY(order_id) REFERENCES "Order" (id)
);
CREATE TABLE "FundingPayment" (
	timestamp BIGINT NOT NULL,
	config_file_path TEXT NOT NULL,
	market TEXT NOT NULL,
	rate FLOAT NOT NULL,
	symbol TEXT NOT NULL,
	amount FLOAT NOT NULL,
	PRIMARY KEY (timestamp)
);
INSERT INTO "Order" (id, config_file_path, strategy, market, symbol, base_asset, quote_asset, creation_timestamp, order_type, amount, leverage, price, last_status, last_update_timestamp, exchange_order_id, position)
VALUES ('x-1', 'conf_pmm_1.yml', 'pure_market_making', 'binance', 'BTC-USDT', 'BTC', 'USDT', 1772352060000, 'LIMIT', 10000, 1, 60001000000, 'OrderFilled', 1772352060000, '9001', 'NIL');
INSERT INTO "Order" (id, config_file_path, strategy, market, symbol, base_asset, quote_asset, creation_timestamp, order_type, amount, leverage, price, last_status, last_update_timestamp, exchange_order_id, position)
VALUES ('x-2', 'conf_pmm_1.yml', 'pure_market_making', 'binance', 'BTC-USDT', 'BTC', 'USDT', 1772352120000, 'LIMIT', 9996, 1, 62000000000, 'OrderFilled', 1772352120000, '9002', 'NIL');
INSERT INTO "Order" (id, config_file_path, strategy, market, symbol, base_asset, quote_asset, creation_timestamp, order_type, amount, leverage, price, last_status, last_update_timestamp, exchange_order_id, position)
VALUES ('x-3', 'conf_pmm_1.yml', 'pure_market_making', 'binance', 'ETH-USDT', 'ETH', 'USDT', 1772352180000, 'LIMIT', 1000000, 1, 3000000000, 'OrderFilled', 1772352180000, '9003', 'NIL');
INSERT INTO "Order" (id, config_file_path, strategy, market, symbol, base_asset, quote_asset, creation_timestamp, order_type, amount, leverage, price, last_status, last_update_timestamp, exchange_order_id, position)
VALUES ('x-4', 'conf_pmm_1.yml', 'pure_market_making', 'kraken', 'ETH-USD', 'ETH', 'USD', 1772352240000, 'LIMIT_MAKER', 500000, 1, 3010000000, 'OrderFilled', 1772352240000, '9004', 'NIL');
INSERT INTO "Order" (id, config_file_path, strategy, market, symbol, base_asset, quote_asset, creation_timestamp, order_type, amount, leverage, price, last_status, last_update_timestamp, exchange_order_id, position)
VALUES ('x-5', 'conf_pmm_1.yml', 'pure_market_making', 'gate_io_paper_trade', 'SOL-USDT', 'SOL', 'USDT', 1772352300000, 'MARKET', 10000000, 1, 150000000, 'OrderFilled', 1772352300000, '9005', 'NIL');
INSERT INTO "Order" (id, config_file_path, strategy, market, symbol, base_asset, quote_asset, creation_timestamp, order_type, amount, leverage, price, last_status, last_update_timestamp, exchange_order_id, position)
VALUES ('x-6', 'conf_perp.yml', 'perp_mm', 'binance_perpetual', 'BTC-USDT', 'BTC', 'USDT', 1772352360000, 'LIMIT', 20000, 5, 61000000000, 'OrderFilled', 1772352360000, '9006', 'OPEN');
INSERT INTO "Order" (id, config_file_path, strategy, market, symbol, base_asset, quote_asset, creation_timestamp, order_type, amount, leverage, price, last_status, last_update_timestamp, exchange_order_id, position)
VALUES ('x-8', 'conf_perp.yml', 'perp_mm', 'binance_perpetual', 'BTC-USDT', 'BTC', 'USDT', 1772352480000, 'LIMIT', 20000, 5, 60000000000, 'OrderFilled', 1772352480000, '9008', 'CLOSE');
INSERT INTO "Order" (id, config_file_path, strategy, market, symbol, base_asset, quote_asset, creation_timestamp, order_type, amount, leverage, price, last_status, last_update_timestamp, exchange_order_id, position)
VALUES ('x-9', 'conf_pmm_1.yml', 'pure_market_making', 'kucoin', 'XRP-USDT', 'XRP', 'USDT', 1772352540000, 'LIMIT', 100000000, 1, 500000, 'OrderFilled', 1772352540000, '9009', 'NIL');
INSERT INTO "Order" (id, config_file_path, strategy, market, symbol, base_asset, quote_asset, creation_timestamp, order_type, amount, leverage, price, last_status, last_update_timestamp, exchange_order_id, position)
VALUES ('x-10', 'conf_pmm_1.yml', 'pure_market_making', 'kucoin', 'XRP-USDT', 'XRP', 'USDT', 1772352600000, 'LIMIT', 100000000, 1, 500000, 'OrderFilled', 1772352600000, '9010', 'NIL');
INSERT INTO "Order" (id, config_file_path, strategy, market, symbol, base_asset, quote_asset, creation_timestamp, order_type, amount, leverage, price, last_status, last_update_timestamp, exchange_order_id, position)
VALUES ('x-11', 'conf_pmm_1.yml', 'pure_market_making', 'kucoin', 'XRP-BTC', 'XRP', 'BTC', 1772352660000, 'LIMIT', 100000000, 1, 0, 'OrderFilled', 1772352660000, '9011', 'NIL');
INSERT INTO "Order" (id, config_file_path, strategy, market, symbol, base_asset, quote_asset, creation_timestamp, order_type, amount, leverage, price, last_status, last_update_timestamp, exchange_order_id, position)
VALUES ('x-12', 'conf_pmm_1.yml', 'pure_market_making', 'kucoin', 'XRP-USDT', 'XRP', 'USDT', 1772352720000, 'LIMIT', 100000000, 1, 400000, 'OrderCancelled', 1772352720000, '9012', 'NIL');
INSERT INTO "TradeFill" (config_file_path, strategy, market, symbol, base_asset, quote_asset, timestamp, order_id, trade_type, order_type, price, amount, leverage, trade_fee, trade_fee_in_quote, exchange_trade_id, position)
VALUES ('conf_pmm_1.yml', 'pure_market_making', 'binance', 'BTC-USDT', 'BTC', 'USDT', 1772352090000, 'x-1', 'BUY', 'LIMIT', 60000000000, 4000, 1, '{"fee_type": "AddedToCost", "percent": "0", "percent_token": null, "flat_fees": [{"token": "BTC", "amount": "0.000004"}]}', 240000, '101', 'NIL');
INSERT INTO "TradeFill" (config_file_path, strategy, market, symbol, base_asset, quote_asset, timestamp, order_id, trade_type, order_type, price, amount, leverage, trade_fee, trade_fee_in_quote, exchange_trade_id, position)
VALUES ('conf_pmm_1.yml', 'pure_market_making', 'binance', 'BTC-USDT', 'BTC', 'USDT', 1772352091000, 'x-1', 'BUY', 'LIMIT', 60000500000, 6000, 1, '{"fee_type": "AddedToCost", "percent": "0", "percent_token": null, "flat_fees": [{"token": "USDT", "amount": "0.360003"}]}', 360003, '102', 'NIL');
INSERT INTO "TradeFill" (config_file_path, strategy, market, symbol, base_asset, quote_asset, timestamp, order_id, trade_type, order_type, price, amount, leverage, trade_fee, trade_fee_in_quote, exchange_trade_id, position)
VALUES ('conf_pmm_1.yml', 'pure_market_making', 'binance', 'BTC-USDT', 'BTC', 'USDT', 1772352150000, 'x-2', 'SELL', 'LIMIT', 62000000000, 9996, 1, '{"fee_type": "AddedToCost", "percent": "0", "percent_token": null, "flat_fees": [{"token": "BNB", "amount": "0.000775"}]}', 0, '103', 'NIL');
INSERT INTO "TradeFill" (config_file_path, strategy, market, symbol, base_asset, quote_asset, timestamp, order_id, trade_type, order_type, price, amount, leverage, trade_fee, trade_fee_in_quote, exchange_trade_id, position)
VALUES ('conf_pmm_1.yml', 'pure_market_making', 'binance', 'ETH-USDT', 'ETH', 'USDT', 1772352210000, 'x-3', 'BUY', 'LIMIT', 3000000000, 1000000, 1, '{"fee_type": "AddedToCost", "percent": "0", "percent_token": null, "flat_fees": [{"token": "USDT", "amount": "1.5"}, {"token": "BNB", "amount": "0.002"}]}', 0, '104', 'NIL');
INSERT INTO "TradeFill" (config_file_path, strategy, market, symbol, base_asset, quote_asset, timestamp, order_id, trade_type, order_type, price, amount, leverage, trade_fee, trade_fee_in_quote, exchange_trade_id, position)
VALUES ('conf_pmm_1.yml', 'pure_market_making', 'kraken', 'ETH-USD', 'ETH', 'USD', 1772352270000, 'x-4', 'SELL', 'LIMIT_MAKER', 3010250000, 500000, 1, '{"fee_type": "AddedToCost", "percent": "0.0026", "percent_token": null, "flat_fees": []}', 3913325, 'TQ7-1', 'NIL');
INSERT INTO "TradeFill" (config_file_path, strategy, market, symbol, base_asset, quote_asset, timestamp, order_id, trade_type, order_type, price, amount, leverage, trade_fee, trade_fee_in_quote, exchange_trade_id, position)
VALUES ('conf_pmm_1.yml', 'pure_market_making', 'gate_io_paper_trade', 'SOL-USDT', 'SOL', 'USDT', 1772352330000, 'x-5', 'BUY', 'MARKET', 150000000, 10000000, 1, '{"fee_type": "DeductedFromReturns", "percent": "0.001", "percent_token": null, "flat_fees": []}', 1500000, '1772352330000000', 'NIL');
INSERT INTO "TradeFill" (config_file_path, strategy, market, symbol, base_asset, quote_asset, timestamp, order_id, trade_type, order_type, price, amount, leverage, trade_fee, trade_fee_in_quote, exchange_trade_id, position)
VALUES ('conf_perp.yml', 'perp_mm', 'binance_perpetual', 'BTC-USDT', 'BTC', 'USDT', 1772352390000, 'x-6', 'SELL', 'LIMIT', 61000000000, 20000, 5, '{"fee_type": "AddedToCost", "percent": "0", "percent_token": null, "flat_fees": [{"token": "USDT", "amount": "0.61"}]}', 610000, '201', 'OPEN');
INSERT INTO "TradeFill" (config_file_path, strategy, market, symbol, base_asset, quote_asset, timestamp, order_id, trade_type, order_type, price, amount, leverage, trade_fee, trade_fee_in_quote, exchange_trade_id, position)
VALUES ('conf_perp.yml', 'perp_mm', 'binance_perpetual', 'BTC-USDT', 'BTC', 'USDT', 1772352510000, 'x-8', 'BUY', 'LIMIT', 60000000000, 20000, 5, '{"fee_type": "AddedToCost", "percent": "0", "percent_token": null, "flat_fees": [{"token": "USDT", "amount": "0.6"}]}', 600000, '202', 'CLOSE');
INSERT INTO "TradeFill" (config_file_path, strategy, market, symbol, base_asset, quote_asset, timestamp, order_id, trade_type, order_type, price, amount, leverage, trade_fee, trade_fee_in_quote, exchange_trade_id, position)
VALUES ('conf_pmm_1.yml', 'pure_market_making', 'kucoin', 'XRP-USDT', 'XRP', 'USDT', 1772352630000, 'x-9', 'SELL', 'LIMIT', 500000, 100000000, 1, '{"fee_type": "AddedToCost", "percent": "0", "percent_token": null, "flat_fees": [{"token": "USDT", "amount": "0.05"}]}', 50000, '77', 'NIL');
INSERT INTO "TradeFill" (config_file_path, strategy, market, symbol, base_asset, quote_asset, timestamp, order_id, trade_type, order_type, price, amount, leverage, trade_fee, trade_fee_in_quote, exchange_trade_id, position)
VALUES ('conf_pmm_1.yml', 'pure_market_making', 'kucoin', 'XRP-USDT', 'XRP', 'USDT', 1772352630000, 'x-10', 'BUY', 'LIMIT', 500000, 100000000, 1, '{"fee_type": "AddedToCost", "percent": "0", "percent_token": null, "flat_fees": [{"token": "USDT", "amount": "0.05"}]}', 50000, '77', 'NIL');
INSERT INTO "TradeFill" (config_file_path, strategy, market, symbol, base_asset, quote_asset, timestamp, order_id, trade_type, order_type, price, amount, leverage, trade_fee, trade_fee_in_quote, exchange_trade_id, position)
VALUES ('conf_pmm_1.yml', 'pure_market_making', 'kucoin', 'XRP-BTC', 'XRP', 'BTC', 1772352690000, 'x-11', 'BUY', 'LIMIT', 0, 100000000, 1, '{"fee_type": "AddedToCost", "percent": "0", "percent_token": null, "flat_fees": [{"token": "BTC", "amount": "0"}]}', 0, '78', 'NIL');
INSERT INTO "FundingPayment" (timestamp, config_file_path, market, rate, symbol, amount)
VALUES (1772352420000, 'conf_perp.yml', 'binance_perpetual', 0.0001, 'BTC-USDT', -0.25);
INSERT INTO "FundingPayment" (timestamp, config_file_path, market, rate, symbol, amount)
VALUES (1772352090, 'conf_perp.yml', 'bybit_perpetual', -0.0002, 'ETH-USDT', 0.125);
