"""Files that no layout knows are read with options on the command line.

They are what other exchanges, brokers and spreadsheets write; each is recorded completely.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from botmemory import Trade, close_db, init_db
from botmemory.cli._app import cli

# of a German broker: cp1252, a decimal comma, dates and times in two columns, totals at the end
GERMAN = """\
Datum;Uhrzeit;Paar;Richtung;Kurs;Menge;Gebühr;Gebührenwährung;Bemerkung
31.01.2024;09:30:15;BTC/EUR;Kauf;39.250,50;0,025;1,25;EUR;für später
31.01.2024;09:30:15;BTC/EUR;Kauf;39.250,50;0,025;1,25;EUR;für später
01.07.2024;18:00:00;BTC/EUR;Verkauf;40.000;0,05;2;EUR;
Summe;;;;;0,1;4,5;;
"""
GERMAN_OPTIONS = [
    *("--encoding", "cp1252", "--decimal", ",", "--thousands", "."),
    *("--date-format", "%d.%m.%Y %H:%M:%S", "--time-zone", "Europe/Berlin", "--skip-footer", "1"),
    *("--map", "Datum=timestamp", "--map", "Uhrzeit=timestamp", "--map", "Paar=symbol"),
    *("--map", "Richtung=side", "--map", "Kurs=price", "--map", "Menge=quantity"),
    *("--map", "Gebühr=fee", "--map", "Gebührenwährung=fee_currency", "--others", "metadata"),
    *("--values", "Richtung:Kauf=buy", "--values", "Richtung:Verkauf=sell"),
]

# "Unicode text" of Excel: UTF-16 with a byte order mark, and tabs
UNICODE = """\
Trade Date\tMarket\tBuy/Sell\tRate\tVolume\tCommission\tAccount
2024/2/1 10:00\tETH-USDT\tB\t2300.5\t1\t0.5\tÄ
2024/2/1 10:00\tETH-USDT\tS\t2301\t1\t0.5\tÄ
"""
UNICODE_OPTIONS = [
    *("--map", "Trade Date=timestamp", "--map", "Market=symbol", "--map", "Buy/Sell=side"),
    *("--map", "Rate=price", "--map", "Volume=quantity", "--map", "Commission=fee"),
    *("--map", "Account=strategy", "--set", "exchange=x"),
    *("--values", "Buy/Sell:B=buy", "--values", "Buy/Sell:S=sell"),
]

# a line for Excel; milliseconds since 1970; signs in the place of sides
SIGNED = """\
sep=;
time;instrument;qty;px;commission;ccy
1706695816000;BTC-PERP;0,5;42010;0,25;USD
1706695815123;BTC-PERP;-0,5;42000,5;-10,5;USD
"""
SIGNED_OPTIONS = [
    *("--date-format", "ms", "--decimal", ","),
    *("--map", "time=timestamp", "--map", "instrument=symbol", "--map", "qty=signed_quantity"),
    *("--map", "px=price", "--map", "commission=negative_fee", "--map", "ccy=fee_currency"),
]

# serial numbers of Excel in the place of dates, dollar signs, a row of totals
SERIAL = """\
Date,Symbol,Action,Shares,Price,Amount
45322.396006944445,AAPL,Bought,10,$187.25,"$1,872.50"
45323.75,AAPL,Sold,10,"$1,190.00","$11,900.00"
,,,Total,,"$13,772.50"
"""
SERIAL_OPTIONS = [
    *("--date-format", "excel", "--thousands", ",", "--time-zone", "America/New_York"),
    *("--map", "Date=timestamp", "--map", "Action=side", "--map", "Shares=quantity"),
    *("--map", "Amount=cost", "--skip", "Shares=Total"),
    *("--values", "Action:Bought=buy", "--values", "Action:Sold=sell"),
]

# an American broker: lines before the names of the columns, the month first, AM and PM
AMERICAN = """\
"Account Trade History","2024"

Exec Time|Side|Qty|Symbol|Price|Net Price
3/10/24 03:30:00 PM|SELL|-1|TSLA|176.00|175.97
3/10/24 01:30:00 AM|BUY|+1|TSLA|175.00|175.03
"""
AMERICAN_OPTIONS = [
    *("--header-line", "3", "--date-format", "%m/%d/%y %I:%M:%S %p"),
    *("--time-zone", "America/New_York", "--map", "Exec Time=timestamp"),
    *("--map", "Qty=signed_quantity", "--map", "Net Price=trade_metadata.net"),
]

# amounts with their currency, seconds since 1970, spaces between thousands, only some rows filled
UNITS = """\
ID,Zeit,Art,Wert,Preis,Gebühr,Status
900719925474099301,"1706695815,5",Kauf,"1 250,5 ADA","0,5 EUR","0,63 EUR",filled
900719925474099302,"1706695815,5",Kauf,"1 250,5 ADA","0,5 EUR","0,63 EUR",filled
900719925474099303,1706695816,Kauf,"10 ADA","0,5 EUR",,cancelled
"""
UNITS_OPTIONS = [
    *("--date-format", "s", "--decimal", ",", "--set", "exchange=bison"),
    *("--map", "ID=exchange_trade_id", "--map", "Zeit=timestamp", "--map", "Art=side"),
    *("--values", "Art:Kauf=buy", "--only", "Status=filled"),
    *("--others", "metadata"),
    *("--patterns", "Wert=(?P<quantity>.+) (?P<base>[A-Z]+)"),
    *("--patterns", "Preis=(?P<price>.+) (?P<quote>[A-Z]+)"),
    *("--patterns", "Gebühr=(?P<fee>.+) (?P<fee_currency>[A-Z]+)"),
]

FILES: dict[str, tuple[str, str, list[str], list[tuple[Any, ...]]]] = {
    "german": (
        GERMAN,
        "cp1252",
        GERMAN_OPTIONS,
        [
            ("2024-01-31T08:30:15", "BTC/EUR", "buy", 39250.5, 0.025, 1.25, "EUR", None),
            ("2024-01-31T08:30:15", "BTC/EUR", "buy", 39250.5, 0.025, 1.25, "EUR", None),
            ("2024-07-01T16:00:00", "BTC/EUR", "sell", 40000, 0.05, 2, "EUR", None),
        ],
    ),
    "unicode": (
        UNICODE,
        "utf-16",
        UNICODE_OPTIONS,
        [
            ("2024-02-01T10:00:00", "ETH-USDT", "buy", 2300.5, 1, 0.5, None, None),
            ("2024-02-01T10:00:00", "ETH-USDT", "sell", 2301, 1, 0.5, None, None),
        ],
    ),
    "signed": (
        SIGNED,
        "utf-8",
        SIGNED_OPTIONS,
        [
            ("2024-01-31T10:10:15.123000", "BTC-PERP", "sell", 42000.5, 0.5, 10.5, "USD", None),
            ("2024-01-31T10:10:16", "BTC-PERP", "buy", 42010, 0.5, -0.25, "USD", None),
        ],
    ),
    "serial": (
        SERIAL,
        "utf-8-sig",
        SERIAL_OPTIONS,
        [
            ("2024-01-31T14:30:15", "AAPL", "buy", 187.25, 10, None, None, None),
            ("2024-02-01T23:00:00", "AAPL", "sell", 1190, 10, None, None, None),
        ],
    ),
    "american": (
        AMERICAN,
        "utf-8",
        AMERICAN_OPTIONS,
        [
            ("2024-03-10T06:30:00", "TSLA", "buy", 175, 1, None, None, None),
            ("2024-03-10T19:30:00", "TSLA", "sell", 176, 1, None, None, None),
        ],
    ),
    "units": (
        UNITS,
        "utf-8",
        UNITS_OPTIONS,
        [
            (
                *("2024-01-31T10:10:15.500000", "ADA/EUR", "buy", 0.5, 1250.5, 0.63, "EUR"),
                f"90071992547409930{n}",
            )
            for n in (1, 2)
        ],
    ),
}
METADATA = {
    "german": {"Bemerkung": "für später"},
    "unicode": None,
    "signed": None,
    "serial": {"cost": 1872.5},
    "american": {"net": "175.03"},
    "units": {"Status": "filled"},
}
every_file = pytest.mark.parametrize("name", FILES)


def import_(path: Path, file: Path, options: list[str]) -> tuple[int, str, str]:
    arguments = ["--db", str(path), "import", "trades", str(file), *options]
    done = CliRunner().invoke(cli, arguments)
    return done.exit_code, done.stdout, done.stderr


@every_file
def test_a_file_is_recorded_with_options(name: str, path: Path, tmp_path: Path) -> None:
    text, encoding, options, trades = FILES[name]
    file = tmp_path / "trades.csv"
    file.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    for said in (f"{len(trades)} recorded, 0 already", f"0 recorded, {len(trades)} already"):
        code, stdout, stderr = import_(path, file, options)
        assert (code, stderr) == (0, "")
        assert said in stdout
    init_db(str(path))
    rows = list(Trade.select().order_by(Trade.timestamp, Trade.id))
    close_db()
    found = [
        (
            *(row.timestamp.isoformat().removesuffix("+00:00"), row.symbol, row.side, row.price),
            *(row.quantity, row.fee, row.fee_currency, row.exchange_trade_id),
        )
        for row in rows
    ]
    assert found == trades
    assert rows[0].trade_metadata == METADATA[name]


HEADER = "Time,Symbol,Side,Price,Qty,Fee\n"
COLUMNS = ["--map", "Time=timestamp", "--map", "Qty=quantity"]


@pytest.mark.parametrize(
    ("text", "options", "advice"),
    [
        ("2024-01-31,BTC/EUR,Kauf,1,1,0\n", [], "no side; say which, as --values side:Kauf=buy"),
        ("2024-01-31,BTC/EUR,Open long,1,1,0\n", [], "--values 'side:Open long=buy'"),
        ("2024-01-31,BTC/EUR,,1,-1,0\n", [], "is below 0; if it is a sale then, pass --map Qty="),
        ('2024-01-31,A/B,buy,"1.250,5",1,0\n', [], "pass --decimal ',' and --thousands '.'"),
        ("2024-01-31,A/B,buy,1.250,1,0\n", ["--decimal", ","], "pass --thousands '.'"),
        ("2024-01-31,A/B,buy,1'250.5,1,0\n", [], 'if "\'" separates thousands, pass --thousands'),
        ("3/10/24 1:30:00 AM,A/B,buy,1,1,0\n", [], "'%d/%m/%y %I:%M:%S %p' or '%m/%d/%y %I:%M:"),
        ("31.01.2024 09:30,A/B,buy,1,1,0\n", [], "--date-format '%d.%m.%Y %H:%M' or"),
        ("2024-01-31,A/B,buy,1,1,0\nTotal: 1 row\n", [], "no rows, pass --skip-footer 1 or more"),
    ],
)
def test_a_message_says_which_option_is_missing(
    text: str, options: list[str], advice: str, path: Path, tmp_path: Path
) -> None:
    file = tmp_path / "trades.csv"
    file.write_text(HEADER + text)
    code, stdout, stderr = import_(path, file, [*COLUMNS, *options])
    assert (code, stdout) == (2, "")
    assert advice in stderr


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (HEADER.encode("utf-16-le"), "is not UTF-8; pass --encoding utf-16-le"),
        (HEADER.encode("utf-16-be"), "is not UTF-8; pass --encoding utf-16-be"),
        ("Gebühr\n".encode("cp1252"), "pass its encoding, such as --encoding cp1252"),
        (b"PK\x03\x04\x14\x00", "is a spreadsheet or an archive; save it as CSV, or unpack it"),
        (b"Datum;Kurs\n", "say what each of them is (of id, timestamp, symbol, side, price"),
    ],
)
def test_a_file_that_is_no_table_is_refused(
    content: bytes, advice: str, path: Path, tmp_path: Path
) -> None:
    file = tmp_path / "trades.csv"
    file.write_bytes(content)
    code, _, stderr = import_(path, file, [])
    assert code == 2
    assert advice in stderr


def test_a_spreadsheet_is_refused_by_its_suffix(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "trades.xlsx"
    file.write_bytes(b"PK\x03\x04")
    assert "save a spreadsheet as CSV, and unpack an archive" in import_(path, file, [])[2]


def test_blank_rows_are_no_rows(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "trades.csv"
    file.write_text(HEADER + "2024-01-31,A/B,buy,1,1,0\n,,,,,\n , ,,,,\n\n")
    assert "1 recorded" in import_(path, file, COLUMNS)[1]


def test_an_amount_in_parentheses_is_below_0(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "trades.csv"
    file.write_text(HEADER + '2024-01-31,A/B,buy,1,1,"(1,250.5)"\n2024-01-31,A/B,buy,1,1,$(2)\n')
    assert import_(path, file, [*COLUMNS, "--thousands", ","])[0] == 0
    init_db(str(path))
    assert [row.fee for row in Trade.select().order_by(Trade.id)] == [-1250.5, -2]


def test_fees_that_are_all_below_0_are_doubtful(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "trades.csv"
    rows = "2024-01-31,A/B,buy,1,1,0\n2024-02-01,A/B,buy,1,1,-0.5\n2024-02-02,A/B,buy,1,1,{}\n"
    file.write_text(HEADER + rows.format("0.1"))
    assert import_(path, file, COLUMNS)[2] == ""
    file.write_text(HEADER + rows.format("-0.1"))
    _, _, stderr = import_(tmp_path / "other.db", file, COLUMNS)
    assert "fee: all of them are below 0, which is a rebate; if they were paid" in stderr


def test_a_swap_of_two_coins_has_one_symbol_in_both_directions(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "trades.csv"
    file.write_text(
        "timestamp,sent,sent currency,received,received currency\n"
        "2024-01-31,10,SOL,2000,ADA\n"
        "2024-02-01,1000,ADA,4,SOL\n"
        "2024-02-02,100,EUR,110,USD\n"
    )
    assert import_(path, file, [])[0] == 0
    init_db(str(path))
    rows = Trade.select().order_by(Trade.timestamp)
    assert [(row.symbol, row.side, row.price, row.quantity) for row in rows] == [
        ("ADA/SOL", "buy", 0.005, 2000),
        ("ADA/SOL", "sell", 0.004, 1000),
        ("EUR/USD", "sell", 1.1, 100),
    ]


@pytest.mark.parametrize(("on_conflict", "code"), [("report", 1), ("update", 0), ("keep_both", 0)])
def test_the_command_exits_with_1_where_a_conflict_is_left(
    tmp_path: Path, on_conflict: str, code: int
) -> None:
    file = tmp_path / "rows.csv"
    names = "symbol,side,price,quantity,timestamp,exchange,exchange_trade_id\n"
    file.write_text(names + "X,buy,1,1,2024-01-01,okx,1\n" + "X,buy,1,2,2024-01-02,okx,1\n")
    database = str(tmp_path / "bot.db")
    command = ["--db", database, "import", "trades", str(file), "--on-conflict", on_conflict]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == code
    assert "line 3: exchange 'okx', symbol 'X', exchange_trade_id '1' is recorded" in done.stderr
    assert done.stderr.endswith("conflicts: 1\n")
