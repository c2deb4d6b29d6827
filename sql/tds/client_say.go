package tds

import (
	"fmt"
	"io"
	"time"
)

const (
	// lingerWait is how long saying no to a client may take, all of it.
	lingerWait = 2 * time.Second
	// lingerBytes is how much of a client's is thrown away meanwhile.
	lingerBytes = 1 << 20
)

// Welcome tells the client that it is logged in: u's answer, rewritten for it
// (Rewrite), in packets of at most 4096 bytes with the server's SPID. Its
// deadlines are cleared.
func (c *Client) Welcome(u *Upstream) error {
	header := Header{Type: Reply, SPID: u.SPID}
	if err := WriteMessage(c.conn, header, Join(u.Rewrite(c.login)), LoginPacket); err != nil {
		return fmt.Errorf("answering the client's login: %w", err)
	}
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("answering the client's login: %w", err)
	}
	return nil
}

// Refuse tells the client that it is not logged in, half-closes, drains for at
// most 2 s and closes: a reset would overtake the message.
func (c *Client) Refuse(f *Fault) { c.say(f.Reply(c.version())) }

// RefuseAs passes the server's own refusal on as it stands, with an INFO before
// it that leads to the gateway's log; otherwise as Refuse. What would tell the
// client that it is logged in, or where else to go, is left out. Without an
// ERROR among tokens the client is told info as one.
func (c *Client) RefuseAs(tokens []Token, info string) {
	refusal := make([]Token, 0, len(tokens)+2)
	refused := false
	for _, t := range tokens {
		switch {
		case len(t) == 0 || misleads(t):
			continue
		case t.Type() == TokenError && !refused:
			refused = true
			refusal = append(refusal, InfoToken(info))
		}
		refusal = append(refusal, t)
	}
	if !refused {
		c.Refuse(LoginFailed(info))
		return
	}
	if refusal[len(refusal)-1].Type() != TokenDone {
		refusal = append(refusal, doneWithError())
	}
	c.say(Join(refusal))
}

// misleads tells whether a token of a refusal would have a client believe that
// it is logged in, or send it past the gateway.
func misleads(t Token) bool {
	switch t.Type() {
	case TokenLoginAck, TokenFeatureExtAck:
		return true
	case TokenEnvChange:
		kind, _, _, err := EnvChange(t)
		return err != nil || kind == EnvRouting || kind == EnvEnhancedRouting || kind == EnvMirror
	}
	return false
}

// doneWithError is a DONE of 7.2 or later with DONE_ERROR (MS-TDS 2.2.7.6).
func doneWithError() Token {
	return append(Token{TokenDone, doneError}, make([]byte, 11)...)
}

// version is how replies to the client are laid out.
func (c *Client) version() uint32 {
	if c.login == nil {
		return TDS74
	}
	return c.login.Version
}

// say sends the last message, and closes as [Client.Refuse] has it.
func (c *Client) say(payload []byte) {
	defer c.raw.Close()
	// TLS puts deadlines of its own on its last word; this one holds.
	bound := time.AfterFunc(lingerWait, func() { _ = c.raw.Close() })
	defer bound.Stop()
	// The login may have used up the deadline.
	_ = c.raw.SetDeadline(time.Now().Add(lingerWait))
	if WriteMessage(c.conn, Header{Type: Reply}, payload, LoginPacket) != nil {
		return
	}
	c.linger()
}

// linger half-closes, at both levels, and throws away what the client sends
// until it closes or the connection's deadline passes.
func (c *Client) linger() {
	if c.conn != c.raw {
		_ = closeWrite(c.conn)
	}
	_ = closeWrite(c.raw)
	_, _ = io.CopyN(io.Discard, c.raw, lingerBytes)
}
