package sandbox

import (
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// An entity is one object of Graph, by its property names.
type entity map[string]any

func (e entity) id() string { return e.str("id") }

func (e entity) str(name string) string {
	s, _ := e[name].(string)
	return s
}

// stableID gives the same name the same GUID in every World, so that examples
// can show one.
func stableID(name string) string {
	return uuid.NewSHA1(uuid.MustParse(TenantID), []byte(strings.ToLower(name))).String()
}

// newcomers returns the users of a fresh Graph: people whom everybody knows
// from Microsoft's developer tenants.
func newcomers() []entity {
	people := []struct{ given, sur, job, office string }{
		{"Adele", "Vance", "Retail Manager", "18/2111"},
		{"Alex", "Wilber", "Marketing Assistant", "131/1104"},
		{"Diego", "Siciliani", "HR Manager", "14/1108"},
		{"Grady", "Archie", "Designer", "19/2109"},
		{"Henrietta", "Mueller", "Developer", "18/1106"},
		{"Isaiah", "Langer", "Sales Rep", "20/1101"},
		{"Johanna", "Lorenz", "Senior Engineer", "23/2102"},
		{"Joni", "Sherman", "Paralegal", "20/1109"},
		{"Lee", "Gu", "Director", "23/3101"},
		{"Lidia", "Holloway", "Product Manager", "20/2107"},
		{"Lynne", "Robbins", "Planner", "20/1104"},
		{"Megan", "Bowen", "Marketing Manager", "12/1110"},
		{"Miriam", "Graham", "Director", "131/2103"},
		{"Nestor", "Wilke", "Director", "36/2121"},
		{"Patti", "Fernandez", "President", "15/1102"},
		{"Pradeep", "Gupta", "Accountant", "98/2202"},
	}
	var out []entity
	for _, p := range people {
		upn := p.given + p.sur[:1] + "@" + TenantDomain
		out = append(out, entity{
			"id": stableID(upn), "displayName": p.given + " " + p.sur, "givenName": p.given, "surname": p.sur,
			"userPrincipalName": upn, "mail": upn, "jobTitle": p.job, "officeLocation": p.office,
			"businessPhones": []string{}, "mobilePhone": nil, "preferredLanguage": "en-US",
		})
	}
	return out
}

// teams returns the groups of a fresh Graph. Members are user IDs, kept under
// a name that no answer shows.
func teams() []entity {
	group := func(name string, members ...string) entity {
		ids := make([]string, 0, len(members))
		for _, m := range members {
			ids = append(ids, stableID(m+"@"+TenantDomain))
		}
		return entity{
			"id": stableID("group " + name), "displayName": name, "description": name + " of Contoso",
			"mailEnabled": false, "securityEnabled": true, "groupTypes": []string{}, membersKey: ids,
		}
	}
	return []entity{
		group("Marketing", "AlexW", "MeganB"),
		group("Directors", "LeeG", "MiriamG", "NestorW"),
	}
}

const membersKey = " members"

// find returns the index of the entity with that id or, for users, that
// userPrincipalName; -1 if there is none.
func find(all []entity, key string) int {
	return slices.IndexFunc(all, func(e entity) bool {
		return strings.EqualFold(e.id(), key) || (e["userPrincipalName"] != nil && strings.EqualFold(e.str("userPrincipalName"), key))
	})
}

// copied returns a copy that may leave the lock: entities are replaced, never
// changed, so the values can be shared.
func copied(all []entity) []entity { return slices.Clone(all) }

// with returns e with the members of patch laid over it.
func (e entity) with(patch entity) entity {
	out := maps.Clone(e)
	maps.Copy(out, patch)
	return out
}
