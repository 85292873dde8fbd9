package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tlsverdict/internal/config"
	"tlsverdict/internal/postfix"
	"tlsverdict/internal/resolve"
	"tlsverdict/internal/verdict"
)

const (
	// firstLook is how long an answer waits to learn how Postfix enforces DANE.
	firstLook = 5 * time.Second
	// printLook is how long the lines for main.cf wait for the same.
	printLook = 2 * time.Second
	// lookAgain is the time from one look to the next; while its resolver does not
	// work as it should, it grows from soonAgain to oftenAgain, so that one that
	// starts a moment after this program is found at once.
	lookAgain  = 5 * time.Minute
	oftenAgain = time.Minute
	soonAgain  = 2 * time.Second
	// stale is how long DANE is left to Postfix after the last look that found it able
	// to do it, where the looks since found nothing against it and nothing for it: a
	// resolver that restarts or is cut off from the internet, a postconf that fails.
	// Verdicts need not change over what passes; and what does not must not be trusted
	// for ever.
	stale = 10 * time.Minute
)

// What the operator can do.
const (
	wayOutResolver = "run a validating resolver on this host, and let Postfix's resolv.conf name it and nothing else; " + wayOutSay
	wayOutName     = `name the resolver that Postfix uses in [postfix] dane_resolver, or, if you know that it validates, set [postfix] dane = "native"`
	wayOutSay      = `or name the one that it uses in [postfix] dane_resolver, or set [postfix] dane = "fingerprint" or "native" to end this search`
	wayOutMain     = " in main.cf, and nothing else in master.cf"
	wayOutDigest   = "smtp_tls_fingerprint_digest = sha256 in main.cf"
)

// mta knows how the Postfix on this host can hold hosts to their TLSA records: by
// itself, where it has a resolver that validates, or by fingerprints. It looks
// once before the first answer, and again from time to time.
type mta struct {
	// without says that there is no DANE, so that nobody need look.
	without bool
	setting config.DANE
	// resolver is the one that Postfix uses, if the operator says so.
	resolver netip.AddrPort
	host     postfix.Host
	timeout  time.Duration
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	// changed is told after what enforcement returns has changed.
	changed func()
	log     *slog.Logger

	mu sync.Mutex
	// guessed says that enforcement has answered before anything was known.
	guessed bool
	// looking is closed when the look that is under way has ended; nil: none is.
	looking chan struct{}
	last    look
}

// look is what one look at Postfix found.
type look struct {
	// done tells a look from none.
	done bool
	// native: Postfix can look TLSA records up, and believe the answers.
	native bool
	// because is why, or why not; wayOut what would change that.
	because, wayOut string
	// unseen: nothing was found for it, and nothing against it either.
	unseen bool
	// kept: native is the word of an earlier look, the last one of which was at proven.
	kept   bool
	proven time.Time
	// refused: Postfix has a setting that keeps it from DANE.
	refused bool
	// servers are the resolvers that were examined; nil where none is known.
	servers []netip.AddrPort
	// sick: what is wrong may soon be well.
	sick bool
	// digest is the kind of fingerprints that Postfix compares; "" is not known.
	digest string
}

// against is a look that found why DANE cannot be left to Postfix.
func (l look) against(because, wayOut string) look {
	l.because, l.wayOut = because, wayOut
	return l
}

// blind is a look that did not find out.
func (l look) blind(because, wayOut string) look {
	l.because, l.wayOut, l.unseen = because, wayOut, true
	return l
}

// since returns what a look comes to after an earlier one: while it says nothing, what
// was known of the same resolvers holds, until stale.
func (l look) since(before look) look {
	if l.native {
		l.proven = time.Now()
		return l
	}
	if l.servers == nil {
		l.servers = before.servers
	}
	strange := slices.ContainsFunc(l.servers, func(s netip.AddrPort) bool { return !slices.Contains(before.servers, s) })
	if l.unseen && before.native && !strange && time.Since(before.proven) < stale {
		l.native, l.kept, l.proven = true, true, before.proven
	}
	return l
}

func newMTA(cfg *config.Config, through Network, log *slog.Logger) *mta {
	return &mta{
		without: cfg.DNS.DNSSEC == config.DNSSECOff,
		setting: cfg.Postfix.DANE, resolver: cfg.Postfix.DANEResolver, host: through.machine(),
		timeout: cfg.DNS.Timeout, dial: through.DialDNS, changed: func() {}, log: log,
	}
}

// enforcement is how Postfix can enforce DANE. Before the first look has ended it
// waits for it, for firstLook at most; while nothing is known it is fingerprints,
// which are right for every Postfix.
func (m *mta) enforcement(ctx context.Context) verdict.Enforcement {
	if m.without {
		return verdict.ByFingerprint
	}
	switch m.setting {
	case config.DANENative:
		return verdict.Native
	case config.DANEFingerprint:
		return verdict.ByFingerprint
	case config.DANEAuto:
		if !m.known().done {
			ctx, cancel := context.WithTimeout(ctx, firstLook)
			defer cancel()
			m.look(ctx)
		}
		return m.answer()
	}
	panic(fmt.Sprintf("daemon: dane setting %v", m.setting))
}

// answer is what the last look comes to, or a guess.
func (m *mta) answer() verdict.Enforcement {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.guessed = m.guessed || !m.last.done
	if m.last.native {
		return verdict.Native
	}
	return verdict.ByFingerprint
}

// needsDigest reports whether main.cf should say which fingerprints to compare. It
// does not keep the daemon from being ready for long.
func (m *mta) needsDigest(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, printLook)
	defer cancel()
	return !m.without && m.enforcement(ctx) == verdict.ByFingerprint
}

func (m *mta) known() look {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// watch looks at once and then again and again, until ctx ends.
func (m *mta) watch(ctx context.Context) {
	pause := soonAgain
	for {
		m.look(ctx)
		wait := lookAgain
		if m.known().sick {
			wait, pause = pause, min(2*pause, oftenAgain)
		} else {
			pause = soonAgain
		}
		timer := time.NewTimer(wait - time.Duration(rand.Int64N(int64(wait)/5+1)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// look looks now, or joins the look that is under way. It ends before that when ctx
// does; the look then goes on.
func (m *mta) look(ctx context.Context) {
	m.mu.Lock()
	done := m.looking
	if done == nil {
		done = make(chan struct{})
		m.looking = done
		go func() {
			// The time-outs of its questions and runs bound it.
			m.take(m.examine(context.WithoutCancel(ctx)))
			m.mu.Lock()
			m.looking = nil
			m.mu.Unlock()
			close(done)
		}()
	}
	m.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// inherit begins with what the mta of an earlier configuration knows, if it is the
// same that both wanted to know: a resolver that is silent just now is no news.
func (m *mta) inherit(from *mta) {
	known := from.known()
	if m.without || from.without || m.setting != config.DANEAuto || from.setting != config.DANEAuto || m.resolver != from.resolver {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = known
}

// take makes a look the last one, tells of what has changed, and has verdicts
// dropped that rest on the old one.
func (m *mta) take(now look) {
	m.mu.Lock()
	before := m.last
	now = now.since(before)
	m.last = now
	relied := before.done || m.guessed
	m.mu.Unlock()
	if relied && before.native != now.native && m.setting == config.DANEAuto {
		m.changed()
	}
	m.report(before, now)
}

// report writes one record where something has changed.
func (m *mta) report(before, now look) {
	if !before.done || before.native != now.native || before.kept != now.kept || before.because != now.because && !now.native {
		m.reportMeans(before, now)
	}
	fingerprints := m.setting == config.DANEFingerprint || m.setting == config.DANEAuto && !now.native
	if fingerprints && wrongDigest(now.digest) && (now.digest != before.digest || before.native) {
		m.log.Error("Postfix compares fingerprints of another kind: it defers all mail to domains with DANE",
			"digest", now.digest, "way_out", wayOutDigest)
	}
}

// reportMeans says who is to enforce DANE now.
func (m *mta) reportMeans(before, now look) {
	switch {
	case m.setting == config.DANEFingerprint && before.done:
	case m.setting == config.DANEFingerprint:
		m.log.Info("DANE is answered as fingerprints, as configured")
	case now.kept:
		m.log.Warn("DANE is left to Postfix as before, and whether it can do it cannot be seen now",
			"because", now.because, "way_out", now.wayOut, "until", now.proven.Add(stale))
	case now.native:
		m.log.Info("DANE is left to Postfix", "because", now.because)
	case m.setting == config.DANENative && now.unseen:
		m.log.Warn("DANE is left to Postfix, as configured, and whether it can do it cannot be seen",
			"because", now.because, "way_out", now.wayOut)
	case m.setting == config.DANENative:
		m.log.Error("DANE is left to Postfix, as configured, and it cannot do it: mail is held up, or goes out without DANE",
			"because", now.because, "way_out", now.wayOut)
	default:
		m.log.Warn("DANE is answered as fingerprints", "because", now.because, "way_out", now.wayOut)
	}
}

func wrongDigest(digest string) bool { return digest != "" && digest != postfix.Sha256 }

// examine looks at Postfix, and at the resolvers that it has.
func (m *mta) examine(ctx context.Context) look {
	setup, err := m.host.Examine(ctx)
	l := look{done: true, digest: setup.Digest}
	if err != nil {
		l.digest = m.known().digest
	}
	switch {
	case m.setting == config.DANEFingerprint:
		return l
	case err != nil:
		return m.unexamined(ctx, l, err)
	case setup.Version != "" && !setup.DANE:
		l.refused = true
		return l.against(setup.Obstacle.Because, setup.Obstacle.WayOut+wayOutMain)
	case m.resolver.IsValid():
		return m.probe(ctx, l, []netip.AddrPort{m.resolver})
	case setup.Version == "":
		// The resolv.conf here is not that of a Postfix elsewhere.
		return l.blind("there is no Postfix here that could be asked for its resolvers", wayOutName)
	}
	servers, err := setup.Resolvers()
	switch {
	case errors.Is(err, postfix.ErrUnlike):
		return l.against(err.Error(), "write that file plainly, "+wayOutSay)
	case err != nil:
		l.sick = true
		return l.blind(err.Error(), "let policyd read that file, "+wayOutSay)
	}
	return m.probe(ctx, l, servers)
}

// unexamined is what there is to find where Postfix's settings cannot be had. What
// they were last holds as far as it keeps Postfix from DANE; else they are taken to be
// right where the operator names the resolver.
func (m *mta) unexamined(ctx context.Context, l look, err error) look {
	before := m.known()
	switch {
	case before.refused:
		l.refused = true
		l = l.against(before.because, before.wayOut)
	case m.resolver.IsValid():
		l = m.probe(ctx, l, []netip.AddrPort{m.resolver})
	default:
		l = l.blind(err.Error(), "let policyd run postconf and read Postfix's configuration, "+wayOutSay)
	}
	l.sick = true
	return l
}

// probe asks the resolvers. Each that Postfix may ask must validate, and be where
// nobody can speak for it.
func (m *mta) probe(ctx context.Context, l look, servers []netip.AddrPort) look {
	l.servers = servers
	if i := slices.IndexFunc(servers, func(s netip.AddrPort) bool { return !s.Addr().Unmap().IsLoopback() }); i >= 0 {
		return l.against(fmt.Sprintf("Postfix's resolver %s is not on this host", servers[i]), wayOutResolver)
	}
	r, err := resolve.New(resolve.Config{Servers: servers, Mode: resolve.TrustAD, Timeout: m.timeout, Dial: m.dial})
	if err != nil {
		return l.against(err.Error(), wayOutResolver)
	}
	found := r.Probe(ctx).Servers
	names := make([]string, len(found))
	for i, s := range found {
		names[i] = s.Addr.String()
	}
	l.sick = true
	if i := slices.IndexFunc(found, func(s resolve.ServerHealth) bool { return s.Disproven }); i >= 0 {
		return l.against(fault(found[i]), wayOutResolver)
	}
	if i := slices.IndexFunc(found, func(s resolve.ServerHealth) bool { return !s.Validates }); i >= 0 {
		return l.blind(fault(found[i]), wayOutResolver)
	}
	l.sick, l.native = false, true
	l.because = "its resolver validates: " + strings.Join(names, ", ")
	return l
}

// fault is what is wrong with a resolver. What the probe would have the operator do is
// about policyd's own.
func fault(s resolve.ServerHealth) string {
	problem, _, _ := strings.Cut(s.Problem, ": ")
	return "Postfix's resolver " + problem
}

// LookAtMTA looks now how Postfix enforces DANE, unless that is being done; answers
// then wait for nothing but their lookups.
func (s *Stack) LookAtMTA(ctx context.Context) { s.mta.look(ctx) }

// CheckDANE looks once at the Postfix on this host and returns what keeps it from
// doing what the configuration has it told, in a line each.
func CheckDANE(ctx context.Context, cfg *config.Config) []string {
	m := newMTA(cfg, Network{}, slog.New(slog.DiscardHandler))
	if m.without {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, firstLook)
	defer cancel()
	m.look(ctx)
	return m.faults(m.known())
}

// faults says what is wrong: what Postfix would not do as it is told, and what keeps it
// from doing DANE by itself although it is set up here. That it has no resolver for it is
// no fault.
func (m *mta) faults(l look) []string {
	var out []string
	fingerprints := m.setting == config.DANEFingerprint || m.setting == config.DANEAuto && !l.native
	switch {
	case m.setting == config.DANENative && l.unseen:
		out = append(out, `postfix.dane = "native", and whether Postfix can do it cannot be seen: `+l.because+": "+l.wayOut)
	case m.setting == config.DANENative && l.done && !l.native:
		out = append(out, `postfix.dane = "native", and Postfix cannot do it: `+l.because+": "+l.wayOut)
	case m.setting == config.DANEAuto && l.refused:
		out = append(out, "DANE is answered as fingerprints: "+l.because+": "+l.wayOut)
	}
	if fingerprints && wrongDigest(l.digest) {
		out = append(out, "Postfix compares "+l.digest+" fingerprints, so that it defers all mail to domains with DANE: "+wayOutDigest)
	}
	return out
}
