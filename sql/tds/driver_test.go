package tds_test

import (
	"bytes"
	"context"
	"database/sql"
	"net"
	"reflect"
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
	go func() {
		if s.conn, err = l.Accept(); err == nil {
			s.run([][]byte{answer, tds.Join(tokens), payload(t, "4.7-batch-answer.hex", tds.Reply)})
		}
	}()
	dsn := "sqlserver://" + l.Addr().String() + "?database=orders&app+name=reports&encrypt=disable"
	connector, err := mssql.NewAccessTokenConnector(dsn, func() (string, error) { return "to.ken", nil })
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	var bar string
	err = db.QueryRowContext(context.Background(), "select 'foo' as bar").Scan(&bar)
	if err != nil || bar != "foo" {
		t.Errorf("the driver reads %q, %v", bar, err)
	}
	_, _ = db.Close(), l.Close()
	<-s.done

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
