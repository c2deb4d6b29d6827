package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
)

const (
	// notifySocket names the variable by which a service manager says where it
	// wants to hear of a service (sd_notify(3)).
	notifySocket = "NOTIFY_SOCKET"
	// notifyPatience is how long a message may take when the manager reads none.
	notifyPatience = 2 * time.Second
)

// errManager is why a service manager was not told.
var errManager = errors.New("the service manager was not told")

// manager is the service manager that started this process, by the protocol of
// sd_notify(3). nil: there is none, and nobody is told.
type manager struct {
	socket string
	log    *audit.Log
	mu     sync.Mutex // guards ending, and keeps messages in their order
	ending bool
}

// managerOf is the manager at socket, the value of NOTIFY_SOCKET.
func managerOf(socket string, log *audit.Log) *manager {
	if socket == "" {
		return nil
	}
	return &manager{socket: socket, log: log}
}

// ready says that all doors are open.
func (m *manager) ready(routes, sql int) {
	m.tell("READY=1", fmt.Sprintf("STATUS=serving; routes: %d, SQL doors: %d", routes, sql))
}

// reloading says that a reload begins. Its end is said by done, which must be
// called; ok is false when the table before stays in force.
func (m *manager) reloading() (done func(ok bool)) {
	if m == nil {
		return func(bool) {}
	}
	// The manager takes this for the answer to its SIGHUP only if the time is not
	// before that of the signal.
	m.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonic().Microseconds()))
	return func(ok bool) {
		status := "STATUS=serving; routes.yaml is in force as it stands"
		if !ok {
			status = "STATUS=serving; routes.yaml has mistakes, and the table before it stays in force: gateway check"
		}
		m.tell("READY=1", status)
	}
}

// stopping says that the end has begun. Nothing is said after it.
func (m *manager) stopping() {
	m.tell("STOPPING=1", "STATUS=draining")
	if m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ending = true
	}
}

// tell sends one message of lines. A gateway serves on when the manager does
// not hear: whether that is an end is the manager's decision.
func (m *manager) tell(lines ...string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ending {
		return
	}
	if err := m.send(strings.Join(lines, "\n")); err != nil {
		m.log.Warn(err.Error(), "remedy", "let the gateway's user and sandbox reach the socket that "+notifySocket+" names, or set Type=exec in the unit")
	}
}

func (m *manager) send(message string) error {
	if !strings.HasPrefix(m.socket, "/") && !strings.HasPrefix(m.socket, "@") {
		return fmt.Errorf("%w: %s is neither a path nor an abstract socket", errManager, notifySocket)
	}
	conn, err := net.Dial("unixgram", m.socket) // which reads @ as the abstract namespace
	if err != nil {
		return fmt.Errorf("%w: %w", errManager, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(notifyPatience)); err != nil {
		return fmt.Errorf("%w: %w", errManager, err)
	}
	if _, err := conn.Write([]byte(message)); err != nil {
		return fmt.Errorf("%w: %w", errManager, err)
	}
	return nil
}

// tellOf has m hear of g's life from now on, which begins with open doors.
func (g *gateway) tellOf(m *manager) {
	g.changing.Lock()
	defer g.changing.Unlock()
	g.manager = m
	t := g.file.Table()
	m.ready(len(t.Routes), len(t.SQL))
}
