package routes

// As returns a table of the same routes with one caller, who is named name and
// proven by what proof says alone: its APIKeys, certificate names, JWT and UID.
// Tenants and limits stay those of the caller in the file; a file without
// callers knows none. Routes for others are for nobody, and a caller that the
// file does not name may call nowhere: then known is false. It has no SQL doors:
// their addresses are fixed, and belong to the gateway that the file is for.
func (t *Table) As(name string, proof Caller) (as *Table, known bool) {
	c := proof
	c.Name, c.Line, c.Tenants, c.Limits = name, 0, nil, Limits{}
	next := *t
	next.SQL = nil
	next.Callers = []*Caller{} // not nil: nobody is anonymous
	if t.Callers == nil {
		next.Callers = append(next.Callers, &c)
		return &next, true
	}
	for _, held := range t.Callers {
		if held.Name == name {
			c.Line, c.Tenants, c.Limits = held.Line, held.Tenants, held.Limits
			next.Callers = append(next.Callers, &c)
			return &next, true
		}
	}
	return &next, false
}

// SecretVariables are the variables of the environment that the file's secrets
// are read from, in the order of the file: whoever else has them has the
// secrets.
func (t *Table) SecretVariables() []string { return t.variables }

// Derive returns a file whose table, now and after each Reload, is what derive
// makes of the one that is read. f goes its own way.
func (f *File) Derive(derive func(*Table) *Table) *File {
	next := &File{path: f.path, env: f.env, opts: f.opts, derive: derive}
	next.table.Store(derive(f.Table()))
	return next
}
