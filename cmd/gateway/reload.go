package main

import (
	"errors"
	"reflect"
	"slices"
	"sync"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

// needsRestart is said when listen changed: the doors stay as they are.
const needsRestart = "listen: this section changed; restart the gateway to have its doors follow"

// openToAll is said when the section callers is gone, and putItBack with it.
const (
	openToAll = "callers: this section is gone, so that whoever reaches the proxy port may use every route"
	putItBack = "put it back, unless that is meant"
)

// Reload implements [admin.Gateway]: it reads routes.yaml and every file that
// it names, and puts the new table in force, or keeps the old one.
func (e *engine) Reload() admin.Reloaded {
	e.changing.Lock()
	defer e.changing.Unlock()
	done := e.manager.reloading()
	defer func() { done(!e.broken.Load()) }()
	before := e.gate.Load().Table()
	certificates := e.reloadCertificates()
	table, err := e.file.Reload()
	if err == nil && e.mayUse != nil {
		err = e.mayUse(table)
	}
	var doors sqlChange
	if err == nil {
		doors, err = e.openSQL(table)
	}
	if err == nil {
		if err = errors.Join(e.callers.Use(table)...); err != nil {
			doors.undo()
		}
	}
	if err != nil {
		e.metrics.Reloaded(false)
		e.broken.Store(true)
		e.memory.read(admin.Reading{Error: err.Error()})
		e.log.Error("routes.yaml was not taken; the table before it stays in force", "gateway.config.mistakes", err.Error())
		return admin.Reloaded{Routes: len(before.Routes), SQL: len(before.SQL), Mistakes: err.Error()}
	}
	if e.follow != nil {
		e.follow(e.watched())
	}
	notices := append(e.apply(table), e.keepTrail(table)...)
	notices = slices.Concat(notices, doors.commit(), exposed(table))
	if e.reopened != nil {
		e.reopened()
	}
	if !reflect.DeepEqual(before.Listen, table.Listen) {
		notices = append(notices, notice{text: needsRestart})
	}
	if before.Callers != nil && table.Callers == nil {
		notices = append(notices, notice{text: openToAll, remedy: putItBack})
	}
	taken := admin.Reloaded{OK: true, Routes: len(table.Routes), SQL: len(table.SQL), Warnings: certificates}
	for _, n := range notices {
		e.report(n)
		taken.Warnings = append(taken.Warnings, n.String())
	}
	e.metrics.Reloaded(true)
	e.memory.read(admin.Reading{OK: true, Warnings: taken.Warnings})
	e.broken.Store(false)
	e.log.Info("routes.yaml is in force", "gateway.config.routes", len(table.Routes), "gateway.config.sql_doors", len(table.SQL))
	e.warm()
	return taken
}

// watch has every change of a file that matters followed by a reload, once the
// engine is there: from the moment that it returns, so that no change gets lost
// between the first reading of a file and the watch over it. stop ends it.
func (g *gateway) watch(file *routes.File) (begin, stop func(), err error) {
	taken := make(chan struct{})
	w, err := secrets.Watch(func() {
		<-taken
		if g.engine != nil {
			g.Reload()
		}
	})
	if err != nil {
		return nil, nil, err
	}
	w.Follow(file.Table().Files())
	begin = sync.OnceFunc(func() {
		if g.engine != nil {
			g.follow = w.Follow
			w.Follow(g.watched()) // what the certificates named besides
		}
		close(taken)
	})
	stop = func() {
		begin()
		_ = w.Close()
	}
	return begin, stop, nil
}
