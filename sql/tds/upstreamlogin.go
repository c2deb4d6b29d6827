package tds

// version is what LOGIN7 says: FEDAUTH needs 7.4, and 8.0 is for strict TLS alone.
func (j *journey) version() uint32 {
	if j.target.Strict {
		return TDS80
	}
	return TDS74
}

// rewritten is the client's login for this hop: the client's credential is out,
// ours is in, and the names are those of the server. Everything else is as the
// client wrote it, byte for byte. fIntSecurity must be 0 with FEDAUTH (MS-TDS
// 2.2.6.4), and a driver that heard AZURESQLDNSCACHING acknowledged would keep
// the gateway's address as the server's.
func (j *journey) rewritten(h hop, fedAuth Feature) *Login {
	l, t := j.login.Clone(), j.target
	l.Version = j.version()
	l.UserName, l.Password, l.ChangePassword, l.SSPI, l.AttachDBFile = nil, nil, nil, nil, nil
	l.OptionFlags2 &^= flagIntegratedSecurity
	l.OptionFlags3 &^= flagChangePassword | flagUserInstance // fExtension follows from the features
	if t.ReadOnly {
		l.TypeFlags |= flagReadOnlyIntent
	}
	l.ServerName = NewUTF16(h.name)
	switch {
	case h.database != "":
		l.Database = NewUTF16(h.database)
	case t.ForceDatabase || l.Database.Units() == 0:
		l.Database = NewUTF16(t.Database)
	}
	l.AppName = append(l.AppName, cutUnits(t.AppNameSuffix, max(0, maxUnits-l.AppName.Units()))...)
	var features []Feature
	for _, f := range l.Features {
		if f.ID != FeatureFedAuth && f.ID != FeatureDNSCaching {
			features = append(features, f)
		}
	}
	l.Features = append(features, fedAuth)
	return l
}
