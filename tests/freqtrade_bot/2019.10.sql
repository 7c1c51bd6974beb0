CREATE TABLE trades (
	id INTEGER NOT NULL,
	exchange VARCHAR NOT NULL,
	pair VARCHAR NOT NULL,
	is_open BOOLEAN NOT NULL,
	fee_open FLOAT NOT NULL,
	fee_close FLOAT NOT NULL,
	open_rate FLOAT,
	open_rate_requested FLOAT,
	close_rate FLOAT,
	close_rate_requested FLOAT,
	close_profit FLOAT,
	stake_amount FLOAT NOT NULL,
	amount FLOAT,
	open_date DATETIME NOT NULL,
	close_date DATETIME,
	open_order_id VARCHAR,
	stop_loss FLOAT,
	stop_loss_pct FLOAT,
	initial_stop_loss FLOAT,
	initial_stop_loss_pct FLOAT,
	stoploss_order_id VARCHAR,
	stoploss_last_update DATETIME,
	max_rate FLOAT,
	min_rate FLOAT,
	sell_reason VARCHAR,
	strategy VARCHAR,
	ticker_interval INTEGER,
	PRIMARY KEY (id)
);
CREATE INDEX ix_trades_stoploss_order_id ON trades (stoploss_order_id);
CREATE INDEX ix_trades_is_open ON trades (is_open);
CREATE INDEX ix_trades_pair ON trades (pair);
