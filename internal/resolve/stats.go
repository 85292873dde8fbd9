package resolve

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"tlsverdict/internal/verdict"
)

// Reply is what came of one question to one server. The set is closed.
type Reply uint8

const (
	// Answered: NOERROR or NXDOMAIN that can be used.
	Answered Reply = iota
	// Silent: nothing came in time.
	Silent
	// Unreachable: the network or the host refused it.
	Unreachable
	// Malformed: what came is no reply.
	Malformed
	// ServFail is the code of that name (RFC 1035 §4.1.1).
	ServFail
	// Refused is any other code that is no answer.
	Refused
	// Lame: the server only refers elsewhere.
	Lame
	// Stale: the server says that the answer is beyond its time (RFC 8914 §4.4).
	Stale
	// Unsent: it was not asked, or not to the end: the asker's time, its budget or the slots
	// were used up.
	Unsent

	replies
)

// String is the reply's word in metrics.
func (r Reply) String() string {
	words := [replies]string{"answered", "silent", "unreachable", "malformed", "servfail", "refused", "lame", "stale", "unsent"}
	return words[r]
}

// replyOf classifies a try.
func replyOf(err error) Reply {
	for _, c := range []struct {
		err   error
		reply Reply
	}{
		{errSilent, Silent},
		{errUnreachable, Unreachable},
		{errMalformed, Malformed},
		{errFailing, ServFail},
		{errRcode, Refused},
		{errLame, Lame},
		{errStale, Stale},
		{errBudget, Unsent},
		{errBusy, Unsent},
	} {
		if errors.Is(err, c.err) {
			return c.reply
		}
	}
	if err != nil {
		return Malformed
	}
	return Answered
}

// counters are those of a Resolver.
type counters struct {
	// proofs are answers by verdict.Proof.
	proofs                [proofs]atomic.Uint64
	questions, validation atomic.Uint64
}

const proofs = int(verdict.Secure) + 1

// Stats is a snapshot of a Resolver's counters.
type Stats struct {
	// Questions are those to the servers in use, by what came of each; those of probes
	// are not among them.
	Questions map[QuestionKind]uint64
	// Proofs are the answers that destinations rest on, by what is proven of them.
	Proofs map[verdict.Proof]uint64
	// OverQuestions are the tries, and OverValidation the lookups, that ended because one
	// destination had used up its share of questions, or of validation.
	OverQuestions, OverValidation uint64
}

// QuestionKind is what questions are counted by.
type QuestionKind struct {
	Server netip.AddrPort
	Reply  Reply
}

// Stats returns the counters.
func (r *Resolver) Stats() Stats {
	s := Stats{
		Questions: make(map[QuestionKind]uint64), Proofs: make(map[verdict.Proof]uint64),
		OverQuestions: r.counts.questions.Load(), OverValidation: r.counts.validation.Load(),
	}
	for _, srv := range r.servers() {
		for reply := range replies {
			if n := srv.replies[reply].Load(); n > 0 {
				s.Questions[QuestionKind{srv.addr, reply}] = n
			}
		}
	}
	for p := range proofs {
		s.Proofs[verdict.Proof(p)] = r.counts.proofs[p].Load()
	}
	return s
}

// answered tells how long a server took to send what it was asked for.
func (r *Resolver) answered(srv *server, sent time.Time) {
	if r.told != nil {
		r.told(srv.addr, time.Since(sent))
	}
}
