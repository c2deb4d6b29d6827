package main

import (
	"reflect"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/secrets"
)

// needsRestart is said when listen changed: the doors stay as they are.
const needsRestart = "listen: this section changed; restart the gateway to have its doors follow"

// Reload implements [admin.Gateway]: it reads routes.yaml and every file that
// it names, and puts the new table in force, or keeps the old one.
func (e *engine) Reload() admin.Reloaded {
	e.changing.Lock()
	defer e.changing.Unlock()
	before := e.gate.Load().Table()
	certificates := e.reloadCertificates()
	table, err := e.file.Reload()
	if err == nil && e.mayUse != nil {
		err = e.mayUse(table)
	}
	if err != nil {
		e.metrics.Reloaded(false)
		e.broken.Store(true)
		e.log.Error("routes.yaml was not taken; the table before it stays in force", "mistakes", err.Error())
		return admin.Reloaded{Routes: len(before.Routes), Mistakes: err.Error()}
	}
	notices := append(e.apply(table), e.keepTrail(table)...)
	if !reflect.DeepEqual(before.Listen, table.Listen) {
		notices = append(notices, notice{text: needsRestart})
	}
	done := admin.Reloaded{OK: true, Routes: len(table.Routes), Warnings: certificates}
	for _, n := range notices {
		e.report(n)
		done.Warnings = append(done.Warnings, n.String())
	}
	e.metrics.Reloaded(true)
	e.broken.Store(false)
	e.log.Info("routes.yaml is in force", "routes", len(table.Routes))
	e.warm()
	return done
}

// watch has every change of a file that matters followed by a reload.
func (e *engine) watch() (*secrets.Watcher, error) {
	var w *secrets.Watcher
	ready := make(chan struct{})
	w, err := secrets.Watch(func() {
		<-ready
		e.Reload()
		w.Follow(e.watched())
	})
	if err != nil {
		return nil, err
	}
	w.Follow(e.watched())
	close(ready)
	return w, nil
}
