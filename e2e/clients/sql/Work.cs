// What applications do, by System.Data.SqlClient, step by step: each step is a
// line "name=value". Arguments: the connection string, and work, who, or lines:
// then each line of the input is a statement, whose one value is the answer,
// each on a connection of the pool.
using System;
using System.Data;
using System.Data.SqlClient;
using System.Linq;

class Work {
    static string address;

    static void Say(string name, object value) { Console.WriteLine(name + "=" + value); Console.Out.Flush(); }

    static object One(SqlConnection c, string text, SqlTransaction t = null) {
        using (var command = new SqlCommand(text, c, t)) return command.ExecuteScalar();
    }

    static string Code(SqlException e) {
        return string.Join("; ", e.Errors.Cast<SqlError>().Where(x => x.Class > 0).Select(x => x.Number + " " + x.Message));
    }

    static void All(SqlConnection c) {
        Say("who", One(c, "SELECT SUSER_SNAME()"));
        var big = new string('ä', 150000);
        using (var command = new SqlCommand("SELECT @s", c)) {
            command.Parameters.Add("@s", SqlDbType.NVarChar, -1).Value = big;
            Say("echo", (string)command.ExecuteScalar() == big ? "true" : "false");
        }
        int rows = 0;
        using (var reader = new SqlCommand("SELECT n, pad FROM numbers(5000, 200)", c).ExecuteReader()) while (reader.Read()) rows++;
        Say("rows", rows);
        One(c, "CREATE TABLE #t (id int)");
        foreach (var commit in new[] { false, true }) {
            var t = c.BeginTransaction();
            One(c, "INSERT INTO #t VALUES (1)", t);
            if (commit) t.Commit(); else t.Rollback();
            Say(commit ? "commit" : "rollback", One(c, "SELECT COUNT(*) FROM #t"));
        }
        try { One(c, "RAISERROR('boom', 16, 1)"); Say("raised", "no error"); } catch (SqlException e) { Say("raised", Code(e)); }
        // In the middle of a result: one that has not begun is not cancelled on Unix (dotnet/SqlClient#109).
        using (var command = new SqlCommand("SELECT n, pad FROM numbers(1000000, 200)", c))
        using (var reader = command.ExecuteReader()) {
            reader.Read();
            command.Cancel();
            try { while (reader.Read()) rows++; Say("cancel", "no error"); } catch (SqlException) { Say("cancel", "stopped"); }
        }
        Say("after", One(c, "SELECT 7"));
        using (var table = new DataTable()) {
            table.Columns.Add("id", typeof(int));
            for (int i = 0; i < 50000; i++) table.Rows.Add(i);
            using (var bulk = new SqlBulkCopy(c) { DestinationTableName = "#t" }) bulk.WriteToServer(table);
        }
        Say("bulk", One(c, "SELECT COUNT(*) FROM #t"));
    }

    static void Mars() {
        using (var c = new SqlConnection(address + ";MultipleActiveResultSets=True")) {
            c.Open();
            long a = 0, b = 0;
            using (var first = new SqlCommand("SELECT n, pad FROM numbers(2000, 100)", c).ExecuteReader())
            using (var second = new SqlCommand("SELECT n, pad FROM numbers(1000, 100)", c).ExecuteReader()) {
                while (second.Read()) { first.Read(); a += first.GetInt64(0); b += second.GetInt64(0); }
                while (first.Read()) a += first.GetInt64(0);
            }
            Say("mars", a + " " + b);
        }
    }

    static void Pool() {
        string[] ids = new string[3];
        for (int i = 0; i < 3; i++) using (var c = new SqlConnection(address)) { c.Open(); One(c, "SELECT 1"); ids[i] = c.ClientConnectionId.ToString(); }
        Say("pool", ids.Distinct().Count());
    }

    static void Lines() {
        for (string line; (line = Console.ReadLine()) != null;) {
            try {
                using (var c = new SqlConnection(address)) { c.Open(); Say(c.ClientConnectionId.ToString(), One(c, line)); }
            } catch (SqlException e) { Say("failed", Code(e)); }
        }
    }

    static int Main(string[] args) {
        address = args[0];
        try {
            if (args[1] == "lines") { Lines(); return 0; }
            using (var c = new SqlConnection(address)) {
                c.Open();
                if (args[1] == "who") { Say("who", One(c, "SELECT SUSER_SNAME()")); return 0; }
                All(c);
            }
            Pool();
            Mars();
            return 0;
        } catch (SqlException e) { Say("failed", Code(e)); } catch (Exception e) { Say("failed", e.GetType() + " " + e.Message); }
        return 1;
    }
}
