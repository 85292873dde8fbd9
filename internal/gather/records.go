package gather

import (
	"context"

	"tlsverdict/internal/signal"
	"tlsverdict/internal/verdict"
)

// records are the lookups for the TXT record and the record type of package signal.
type records struct{ txt, rr *pending }

// pending is a lookup under way, whose answer may be read once done is closed.
type pending struct {
	done   chan struct{}
	answer verdict.Answer[string]
}

// startRecords asks for what Rules has on, at once with everything else. Patience
// bounds it, by ctx.
func (g *Gatherer) startRecords(ctx context.Context, s Session, domain string) records {
	begin := func(mode verdict.Mode, lookup func() verdict.Answer[string]) *pending {
		if mode == verdict.Off || g.Rules.WithoutDNSSEC {
			return nil
		}
		p := &pending{done: make(chan struct{})}
		go func() {
			defer close(p.done)
			p.answer = guard(g, lookup)
		}()
		return p
	}
	return records{
		txt: begin(g.Rules.TXT, func() verdict.Answer[string] { return s.TXT(ctx, signal.TXTPrefix+domain) }),
		rr:  begin(g.Rules.RR, func() verdict.Answer[string] { return s.Private(ctx, domain, g.Rules.RRType) }),
	}
}

// into waits for the records that the verdict needs, and takes what is there of the
// others: nobody waits for what is only observed, or cannot matter.
func (r records) into(f *verdict.Facts) {
	if f.Rules.TXT == verdict.Enforce && verdict.Missing(*f) == verdict.FromTXT {
		f.TXT = r.txt.wait()
	}
	if f.Rules.RR == verdict.Enforce && verdict.Missing(*f) == verdict.FromRR {
		f.RR = r.rr.wait()
	}
	r.txt.take(&f.TXT)
	r.rr.take(&f.RR)
}

func (p *pending) wait() verdict.Answer[string] {
	<-p.done
	return p.answer
}

// take fills in what is there.
func (p *pending) take(a *verdict.Answer[string]) {
	if p == nil {
		return
	}
	select {
	case <-p.done:
		*a = p.answer
	default:
	}
}
