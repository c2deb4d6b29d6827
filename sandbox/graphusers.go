package sandbox

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// maxUsers bounds what POST can make.
const maxUsers = 10_000

func userColumns() []string {
	return []string{"businessPhones", "displayName", "givenName", "jobTitle", "mail", "mobilePhone",
		"officeLocation", "preferredLanguage", "surname", "userPrincipalName", "id"}
}

func groupColumns() []string {
	return []string{"id", "description", "displayName", "groupTypes", "mailEnabled", "securityEnabled"}
}

func (c *call) people() listing {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	return listing{name: "users", all: copied(c.g.users), columns: userColumns()}
}

func (c *call) groups() listing {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	return listing{name: "groups", all: copied(c.g.groups), columns: groupColumns()}
}

// notFound answers for an object that is not there.
func (c *call) notFound(key string) {
	c.fail(http.StatusNotFound, "Request_ResourceNotFound",
		"Resource '"+clip(key, 100)+"' does not exist or one of its queried reference-property objects are not present.")
}

func (c *call) listUsers()  { c.list(c.people()) }
func (c *call) listGroups() { c.list(c.groups()) }

func (c *call) getUser()  { c.get(c.people()) }
func (c *call) getGroup() { c.get(c.groups()) }

// get answers with the entity that the path names.
func (c *call) get(l listing) {
	i := find(l.all, c.vars[0])
	if i < 0 {
		c.notFound(c.vars[0])
		return
	}
	c.one(http.StatusOK, l.all[i], l)
}

func (c *call) listMembers() {
	l := c.groups()
	i := find(l.all, c.vars[0])
	if i < 0 {
		c.notFound(c.vars[0])
		return
	}
	ids, _ := l.all[i][membersKey].([]string)
	members := c.people()
	members.name = "directoryObjects"
	members.all = slices.DeleteFunc(members.all, func(u entity) bool { return !slices.Contains(ids, u.id()) })
	c.list(members)
}

// readUser reads a JSON object of user properties. ok is false if the answer
// has been given.
func (c *call) readUser() (u entity, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxForm))
	if err != nil {
		c.fail(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The request body is too large.")
		return nil, false
	}
	if json.Unmarshal(body, &u) != nil || u == nil {
		c.fail(http.StatusBadRequest, "BadRequest", "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format.")
		return nil, false
	}
	delete(u, "id") // the server's own
	for name := range u {
		if !slices.Contains(userColumns(), name) {
			delete(u, name) // passwordProfile and the like have no place here
		}
	}
	return u, true
}

func (c *call) createUser() {
	u, ok := c.readUser()
	if !ok {
		return
	}
	for _, needed := range []string{"displayName", "userPrincipalName"} {
		if u.str(needed) == "" {
			c.fail(http.StatusBadRequest, "Request_BadRequest", "A value is required for property '"+needed+"' of resource 'User'.")
			return
		}
	}
	u["id"] = uuid.NewString()
	if taken := c.g.addUser(u); taken {
		c.fail(http.StatusBadRequest, "Request_BadRequest",
			"Another object with the same value for property userPrincipalName already exists.")
		return
	}
	c.w.Header().Set("Location", c.base+"/v1.0/users/"+u.id())
	c.one(http.StatusCreated, u, listing{name: "users", columns: userColumns()})
}

// addUser reports whether the name is taken, or the house is full.
func (g *Graph) addUser(u entity) (taken bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.users) >= maxUsers || find(g.users, u.str("userPrincipalName")) >= 0 {
		return true
	}
	g.users = append(g.users, u)
	return false
}

func (c *call) updateUser() {
	patch, ok := c.readUser()
	if !ok {
		return
	}
	c.g.mu.Lock()
	i := find(c.g.users, c.vars[0])
	if i >= 0 {
		c.g.users[i] = c.g.users[i].with(patch)
	}
	c.g.mu.Unlock()
	if i < 0 {
		c.notFound(c.vars[0])
		return
	}
	c.w.WriteHeader(http.StatusNoContent)
}

func (c *call) deleteUser() {
	c.g.mu.Lock()
	i := find(c.g.users, c.vars[0])
	if i >= 0 {
		c.g.users = slices.Delete(c.g.users, i, i+1)
	}
	c.g.mu.Unlock()
	if i < 0 {
		c.notFound(c.vars[0])
		return
	}
	c.w.WriteHeader(http.StatusNoContent)
}

// AddUser puts a user into Graph, as an administrator would, and returns the
// ID. An empty userPrincipalName is made of the display name.
func (g *Graph) AddUser(displayName, userPrincipalName string) (id string) {
	if userPrincipalName == "" {
		userPrincipalName = strings.ReplaceAll(displayName, " ", ".") + "@" + TenantDomain
	}
	u := entity{}
	for _, c := range userColumns() {
		u[c] = nil
	}
	u = u.with(entity{
		"id": uuid.NewString(), "displayName": displayName, "userPrincipalName": userPrincipalName, "mail": userPrincipalName,
		"businessPhones": []string{},
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.users = append(g.users, u)
	return u.id()
}
