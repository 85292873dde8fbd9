package resolve

import (
	"context"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// scheme is a way to prove answers. It sees every reply that passed the checks of
// form and decides what it is worth.
type scheme interface {
	// bits are set in every query.
	bits() queryBits
	// probed reports whether judge needs to know a server's health.
	probed() bool
	// judge completes a result with its proof. It may ask more questions through
	// the session, on the same budget.
	judge(ctx context.Context, s *Session, rep reply, res result) result
	// probe examines one server.
	probe(ctx context.Context, r *Resolver, srv *server) ServerHealth
}

// reply is a message that answers a question, and who sent it.
type reply struct {
	question question
	from     *server
	msg      *dns.Msg
}

// unproven is mode Off.
type unproven struct{}

func (unproven) bits() queryBits { return queryBits{} }
func (unproven) probed() bool    { return false }

func (unproven) judge(_ context.Context, _ *Session, _ reply, res result) result { return res }

// adTrust is mode TrustAD.
type adTrust struct{ remote bool }

// The AD bit in a query asks for the one in the reply (RFC 6840 §5.7), without
// the signatures that DO would bring along.
func (adTrust) bits() queryBits { return queryBits{header: bitAD} }
func (adTrust) probed() bool    { return true }

// judge believes both values of the AD bit, or neither: that it is clear says
// "insecure" only where a validator looked. From a server that merely forwards it
// says nothing, and to read it as insecure would be a downgrade.
func (adTrust) judge(_ context.Context, _ *Session, rep reply, res result) result {
	switch {
	case !rep.from.health().Validates:
	case rep.msg.AuthenticatedData:
		res.proof = verdict.Secure
	default:
		res.proof = verdict.Insecure
	}
	return res
}
