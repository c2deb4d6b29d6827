"""What applications do, by Python's drivers, step by step: each step is a line
"name=value". Arguments: pymssql, pytds or pyodbc, host, port, encrypt, the file
of the CA, user, password, and the one step to make, if not all. FreeTDS is told
of encryption by FREETDSCONF."""

import sys

driver, host, port, encrypt, ca, user, password = sys.argv[1:8]
only = sys.argv[8] if len(sys.argv) > 8 else ""
port = int(port)
big = "ä" * 150000


def say(name, value):
    print(f"{name}={value}", flush=True)


def connect(timeout=0, mars=False):
    if driver == "pymssql":
        import pymssql
        return pymssql.connect(server=host, port=str(port), user=user, password=password, database="d1", tds_version="7.3", appname="worker", timeout=timeout)
    if driver == "pytds":
        import pytds
        return pytds.connect(host, port=port, user=user, password=password, database="d1", appname="worker", use_mars=mars,
                             cafile=ca if encrypt != "off" else None, enc_login_only=encrypt == "login", timeout=timeout or None, login_timeout=30)
    import pyodbc
    return pyodbc.connect(f"Driver={{FreeTDS}};Server={host};Port={port};UID={user};PWD={password};Database=d1;APP=worker;TDS_Version=7.4;Encryption={encrypt};")


def one(c, text, *values):
    cursor = c.cursor()
    cursor.execute(text, tuple(values)) if values else cursor.execute(text)
    value = cursor.fetchone()[0]
    cursor.close()
    return value


def transactions(c):
    cursor = c.cursor()
    cursor.execute("CREATE TABLE #t (id int)")
    c.commit()
    for end in ("rollback", "commit"):
        cursor.execute("INSERT INTO #t VALUES (1)")
        getattr(c, end)()
        say(end, one(c, "SELECT COUNT(*) FROM #t"))
    cursor.close()


def raised(c):
    try:
        c.cursor().execute("RAISERROR('boom', 16, 1)")
        say("raised", "no error")
    except Exception as e:
        text = str(e)
        say("raised", "50000 boom" if "boom" in text and ("50000" in text or getattr(e, "number", 0) == 50000) else text)


def cancel(c):
    """pymssql ends a statement by its timeout, the others in the middle of a result."""
    cursor = c.cursor()
    if driver != "pymssql":
        cursor.execute("SELECT n, pad FROM numbers(1000000, 200)")
        cursor.fetchone()
        cursor.cancel()
        return say("cancel", "stopped")
    try:
        cursor.execute("WAITFOR DELAY '01:00:00'")
        say("cancel", "no error")
    except Exception:
        say("cancel", "stopped")


def mars():
    with connect(mars=True) as c:
        first, second = c.cursor(), c.cursor()
        first.execute("SELECT n FROM numbers(2000, 100)")
        second.execute("SELECT n FROM numbers(1000, 100)")
        got = [0, 0]
        for n in range(1000):
            got[0] += first.fetchone()[0]
            got[1] += second.fetchone()[0]
        got[0] += sum(row[0] for row in first.fetchall())
        say("mars", f"{got[0]} {got[1]}")


def work():
    c = connect()
    say("who", one(c, "SELECT SUSER_SNAME()"))
    if only == "who":
        return c.close()
    # FreeTDS' ODBC driver cuts parameters at 4000 characters, so that there the text is in the statement.
    got = one(c, f"SELECT N'{big}'") if driver == "pyodbc" else one(c, "SELECT %s", big)
    say("echo", str(got == big).lower())
    cursor = c.cursor()
    cursor.execute("SELECT n, pad FROM numbers(5000, 200)")
    say("rows", len(cursor.fetchall()))
    cursor.close()
    transactions(c)
    raised(c)
    if driver == "pymssql":
        c.close()
        c = connect(timeout=1)
        cancel(c)
        c.close()
        c = connect()
    else:
        cancel(c)
        c.rollback()
    say("after", one(c, "SELECT 7"))
    c.close()
    if driver == "pytds":
        mars()


try:
    work()
except Exception as e:
    say("failed", f"{type(e).__name__} {e}")
    sys.exit(1)
