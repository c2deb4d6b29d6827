package tds_test

import (
	"bytes"
	"database/sql"
	"net"
	"reflect"
	"slices"
	"testing"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// TestADriverTakesPublishedAnswersAndSendsWhatIsRebuilt has a driver that
// nobody here wrote on the other end of PRELOGIN, LOGIN7 with FEDAUTH, and the
// answers of MS-TDS 4.5 and 4.7.
func TestADriverTakesPublishedAnswersAndSendsWhatIsRebuilt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answer := prelogin(2)
	options, err := tds.ParsePrelogin(answer)
	if err != nil {
		t.Fatal(err)
	}
	answer = append(options, tds.Option{Token: tds.OptFedAuthRequired, Data: []byte{1}}).Bytes()
	// The nonce and signature of 4.5 belong to another library than a driver
	// has that shows a token of its own: its acknowledgement is empty.
	tokens := split(t, payload(t, "4.5-login-answer.hex", tds.Reply))
	tokens[7] = tds.BuildFeatureExtAck([]tds.Feature{{ID: tds.FeatureFedAuth}})
	s := &server{done: make(chan struct{})}
	replies := [][]byte{answer, tds.Join(tokens), payload(t, "4.7-batch-answer.hex", tds.Reply)}
	go func() {
		conn, err := l.Accept()
		if err != nil {
			close(s.done)
			return
		}
		s.conn = conn
		s.run(replies)
	}()
	dsn := "sqlserver://" + l.Addr().String() + "?database=orders&app+name=reports&encrypt=disable"
	connector, err := mssql.NewAccessTokenConnector(dsn, func() (string, error) { return "to.ken", nil })
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	if bars, err := readAll(db); err != nil || !slices.Equal(bars, []string{"foo"}) {
		t.Errorf("the driver reads %q, %v", bars, err)
	}
	_, _ = db.Close(), l.Close()
	<-s.done
	if len(s.got) != 3 {
		t.Fatalf("the driver sent %d messages, want 3", len(s.got))
	}

	login := parseLogin(t, s.got[1])
	if login.AppName.String() != "reports" || login.Database.String() != "orders" || login.Password != nil {
		t.Errorf("app %q, database %q", login.AppName, login.Database)
	}
	data, _ := login.Feature(tds.FeatureFedAuth)
	if want := tds.FedAuth(secrets.New("to.ken"), true, nil).Data; !bytes.Equal(data, want) {
		t.Errorf("the driver's FEDAUTH is %x, ours %x", data, want)
	}
	rebuilt, err := login.Bytes()
	if err != nil || !reflect.DeepEqual(parseLogin(t, rebuilt), login) {
		t.Errorf("the driver's login is rebuilt as %x, %v, want %x", rebuilt, err, s.got[1])
	}
}

// readAll reads to the end, as a driver that is stopped before sends attention.
func readAll(db *sql.DB) ([]string, error) {
	rows, err := db.Query("select 'foo' as bar")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}
