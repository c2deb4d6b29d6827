package authority

import (
	"context"
	"regexp"

	"github.com/seed-13b04e61/gateway/tokens"
)

// noSuchResource is AADSTS500011.
const noSuchResource = 500011

// cosmosScope is the audience that all accounts of Cosmos DB share.
const cosmosScope = "https://cosmos.azure.com/.default"

// cosmosAccount is the scope of one account, in any cloud.
var cosmosAccount = regexp.MustCompile(`^https://[a-z0-9-]{3,50}\.documents\.azure\.(com|us|cn)/\.default$`)

// cosmos returns q with the scope that id's tenant takes for accounts of
// Cosmos DB, once it is known that they have none of their own.
func (id *identity) cosmos(q question) question {
	if cosmosAccount.MatchString(q.scope) && id.state.cosmosIsGeneral() {
		q.scope = cosmosScope
	}
	return q
}

// askCosmos asks once more after an account of Cosmos DB was refused as no
// resource, for the audience that all accounts share, as the account's own
// exists in some tenants only (entra.md §3.3). refused is the error otherwise.
func (d *Directory) askCosmos(ctx context.Context, id *identity, q question, refused *Error) (tokens.Token, *Error) {
	if !cosmosAccount.MatchString(q.scope) {
		return tokens.Token{}, refused
	}
	if id.state.cosmosIsGeneral() { // that was asked, and is wrong by now
		id.state.setCosmos(false)
		return tokens.Token{}, refused
	}
	p, err := id.prove(ctx)
	if err != nil {
		return tokens.Token{}, refused
	}
	q.scope = cosmosScope
	token, e := d.exchange(ctx, id, p, q)
	if e != nil {
		refused.Detail += "\nasked for " + cosmosScope + " as well: " + e.Error()
		return tokens.Token{}, refused
	}
	id.state.setCosmos(true)
	return token, nil
}
