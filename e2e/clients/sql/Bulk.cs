// What System.Data.SqlClient does beside Work.cs: rows in bulk, within transactions
// and given up, fifty results side by side, and a connection that breaks while it
// rests. Each step is a line "name=value". Arguments: the connection string, how
// many rows. Before "resumed" it waits for a line of its input.
using System;
using System.Collections.Generic;
using System.Data;
using System.Data.SqlClient;
using System.Linq;

class Bulk {
    static void Say(string name, object value) { Console.WriteLine(name + "=" + value); Console.Out.Flush(); }

    static object One(SqlConnection c, string text, SqlTransaction t = null) {
        using (var command = new SqlCommand(text, c, t)) return command.ExecuteScalar();
    }

    static void Copy(SqlConnection c, SqlTransaction t, DataTable rows, int stopAt) {
        using (var bulk = new SqlBulkCopy(c, SqlBulkCopyOptions.Default, t) { DestinationTableName = "#t", BulkCopyTimeout = 60 }) {
            if (stopAt > 0) {
                bulk.NotifyAfter = stopAt;
                bulk.SqlRowsCopied += (sender, e) => e.Abort = true;
            }
            bulk.WriteToServer(rows);
        }
    }

    static void Load(SqlConnection c, int n) {
        var rows = new DataTable();
        rows.Columns.Add("id", typeof(int));
        rows.Columns.Add("pad", typeof(string));
        for (int i = 0; i < n; i++) rows.Rows.Add(i, "row " + i);
        One(c, "CREATE TABLE #t (id int, pad nvarchar(50))");
        foreach (var commit in new[] { false, true }) {
            var t = c.BeginTransaction();
            Copy(c, t, rows, 0);
            if (commit) t.Commit(); else t.Rollback();
            Say(commit ? "committed" : "rolledBack", One(c, "SELECT COUNT(*) FROM #t"));
        }
        var given = c.BeginTransaction();
        try { Copy(c, given, rows, n / 2); Say("cancelled", "no error"); } catch (OperationAbortedException) { Say("cancelled", "stopped"); }
        given.Rollback();
        Say("after", One(c, "SELECT COUNT(*) FROM #t"));
    }

    static void Mars(string address) {
        using (var c = new SqlConnection(address + ";MultipleActiveResultSets=True")) {
            c.Open();
            var readers = new List<SqlDataReader>();
            for (int i = 0; i < 50; i++) readers.Add(new SqlCommand("SELECT n, pad FROM numbers(" + (200 + i) + ", 400)", c).ExecuteReader());
            long rows = 0;
            while (readers.Count > 0) {
                foreach (var r in readers.ToList()) {
                    if (r.Read()) { rows++; continue; }
                    r.Close();
                    readers.Remove(r);
                }
            }
            Say("mars", rows);
        }
    }

    static int Main(string[] args) {
        try {
            using (var c = new SqlConnection(args[0] + ";Pooling=False;ConnectRetryCount=3;ConnectRetryInterval=1")) {
                c.Open();
                Load(c, int.Parse(args[1]));
            }
            Mars(args[0] + ";Pooling=False");
            using (var c = new SqlConnection(args[0] + ";Pooling=False;ConnectRetryCount=3;ConnectRetryInterval=1")) {
                c.Open();
                Say("rests", One(c, "SELECT SUSER_SNAME()"));
                Console.ReadLine();
                Say("resumed", One(c, "SELECT SUSER_SNAME()"));
            }
            return 0;
        } catch (SqlException e) { Say("failed", e.Number + " " + e.Message); } catch (Exception e) { Say("failed", e.GetType() + " " + e.Message + e.StackTrace); }
        return 1;
    }
}
