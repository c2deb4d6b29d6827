package tds

import "fmt"

// unfit is why the client cannot be served, nil if it can. A token that it
// brought along is overwritten.
func (a *arrival) unfit() *Fault {
	switch {
	case !AtLeast73B(a.login.Version):
		return a.tooOld()
	case a.front.Passwords && !a.front.Plain && a.mode == modeOff:
		return LoginFailed("the gateway takes passwords in encrypted connections only, and this door (client_tls: off) has none: set client_tls: optional, or plain: true, in routes.yaml")
	case !a.dropToken():
		return LoginFailed("the gateway supplies the access token itself: remove Authentication=Active Directory… from the connection string, and give " + a.credentials())
	case a.login.OptionFlags2&flagIntegratedSecurity != 0 || len(a.login.SSPI) > 0:
		return LoginFailed("the gateway takes no Windows login: remove Integrated Security (Trusted_Connection, integratedSecurity) from the connection string, and give " + a.credentials())
	}
	return nil
}

// tooOld is for a client whose token streams are not those of 7.4, and for one
// without PRELOGIN.
func (a *arrival) tooOld() *Fault {
	speaks := VersionName(a.login.Version)
	if a.options == nil {
		speaks += " without PRELOGIN"
	}
	return LoginFailed(fmt.Sprintf("the gateway needs a client that speaks TDS 7.3B or later, and this one speaks %s: "+
		"set the driver's TDS version to 7.4 (FreeTDS: tds version = 7.4, or TDSVER=7.4), or use a newer driver", speaks))
}

// decline tells the client, before its login is anybody else's affair, that it
// cannot be served. The session stands in what it reads alone.
func (a *arrival) decline(f *Fault) {
	said := *f
	said.Message = "gateway: " + f.Message
	if a.front.Session != "" {
		said.Message += " (session " + a.front.Session + ")"
	}
	a.Refuse(&said)
}

// credentials is what the connection string has to have instead.
func (a *arrival) credentials() string {
	if a.front.Passwords {
		return "the caller's name as User ID and its API key as Password"
	}
	return "any User ID and Password"
}

// dropToken overwrites the token that a client brought ready-made (library
// SecurityToken), as no server will see it; that it brought one stays known. It
// returns false for the kinds that want one from a server (MS-TDS 2.2.6.4,
// bFedAuthLibrary).
func (a *arrival) dropToken() bool {
	for i, feature := range a.login.Features {
		if feature.ID != FeatureFedAuth {
			continue
		}
		if len(feature.Data) == 0 || feature.Data[0]>>1 != FedAuthLibrarySecurityToken {
			return false
		}
		clear(feature.Data[1:])
		a.login.Features[i].Data = feature.Data[:1]
	}
	return true
}
