package resolve

import (
	"context"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// scheme is a way to prove answers.
type scheme interface {
	// bits are set in every query.
	bits() queryBits
	// answer asks a question, on the budget of the session, and says what the answer
	// is worth.
	answer(ctx context.Context, s *Session, q question, f *flight) result
	// probe examines one server.
	probe(ctx context.Context, r *Resolver, srv *server) ServerHealth
}

// unproven is mode Off.
type unproven struct{}

func (unproven) bits() queryBits { return queryBits{} }

func (unproven) answer(ctx context.Context, s *Session, q question, f *flight) result {
	return s.ask(ctx, q, f, func(*server, *dns.Msg) verdict.Proof { return verdict.Indeterminate })
}

// adTrust is mode TrustAD.
type adTrust struct{ remote bool }

// The AD bit in a query asks for the one in the reply (RFC 6840 §5.7), without
// the signatures that DO would bring along.
func (adTrust) bits() queryBits { return queryBits{header: bitAD} }

// answer needs to know the health of the servers: it waits for a probe where none can
// be believed.
func (adTrust) answer(ctx context.Context, s *Session, q question, f *flight) result {
	if ctx.Err() == nil {
		if s.r.ready(ctx); ctx.Err() != nil {
			return abandoned(ctx, verdict.Operator, q.String()+" while the name servers were probed")
		}
	}
	return s.ask(ctx, q, f, judgeByAD)
}

// judgeByAD believes both values of the AD bit, or neither: that it is clear says
// "insecure" only where a validator looked. From a server that merely forwards it
// says nothing, and to read it as insecure would be a downgrade.
func judgeByAD(from *server, m *dns.Msg) verdict.Proof {
	switch {
	case !from.health().Validates:
		return verdict.Indeterminate
	case m.AuthenticatedData:
		return verdict.Secure
	}
	return verdict.Insecure
}

// vouches reports whether a server's own word on validation counts: that of SERVFAIL,
// too.
func (r *Resolver) vouches(srv *server) bool {
	_, trusting := r.scheme.(adTrust)
	return trusting && srv.health().Validates
}
