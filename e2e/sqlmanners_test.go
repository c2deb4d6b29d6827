package e2e

import (
	"fmt"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// TestDriversWorkWithServersOfEveryKind has the server speak as Azure SQL,
// Managed Instance, Synapse and Fabric do, each of which leaves something out or
// says something more. The server records what the gateway makes of it.
func TestDriversWorkWithServersOfEveryKind(t *testing.T) {
	t.Parallel()
	for name, manners := range map[string]sandbox.SQLManners{
		"FEDAUTHREQUIRED is 0":       {FedAuth: sandbox.FedAuthNotRequired},
		"FEDAUTHREQUIRED is absent":  {FedAuth: sandbox.FedAuthAbsent},
		"a nonce though none sent":   {Nonce: sandbox.NonceAlways},
		"DONE before LOGINACK":       {DoneFirst: true},
		"an answer in small packets": {AnswerPacket: 64},
		"packets of 8000":            {PacketSize: 8000},
		"packets of 16383":           {PacketSize: 16383},
		"ON to ON":                   {Encryption: sandbox.EncryptOn},
		"REQ to ON":                  {Encryption: sandbox.EncryptRequired},
		"names are looked at":        {CheckServerName: true},
	} {
		for _, r := range []sqlRow{{driver: "go-mssqldb", encrypt: "disable"}, {driver: "tedious", encrypt: "true"}, {driver: "SqlClient", encrypt: "True"}} {
			t.Run(name+", "+r.driver, func(t *testing.T) {
				t.Parallel()
				f := newSQLField(t, sqlSetup{before: func(f *sqlField) { f.far.Set(func(m *sandbox.SQLManners) { *m = manners }) }})
				if out := f.who(t, r, "any", "any"); steps(out)["who"] != sqlPrincipal {
					t.Errorf("it prints %s", tail(out, 2000))
				}
				if err := f.manyRows(t); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// manyRows reads a result of some megabytes.
func (f *sqlField) manyRows(t *testing.T) error {
	t.Helper()
	rows, err := f.pool(t, "any", "any", "encrypt=disable").QueryContext(t.Context(), "SELECT n, pad FROM numbers(10000, 300)")
	if err != nil {
		return err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		n++
	}
	if err := rows.Err(); err != nil || n != 10000 {
		return fmt.Errorf("%d rows of 10000, %v", n, err)
	}
	return nil
}
