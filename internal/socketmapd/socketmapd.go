// Package socketmapd answers socketmap questions with rulings: it turns a key into
// a destination, asks the engine, and spells the verdict as the asking MTA reads it.
//
//	r := socketmapd.New(engine, socketmapd.Options{Deadline: 12 * time.Second, Log: log})
//	server := &postfixmap.Server{Handler: r}
//
// The first word of a request, the map name, chooses the dialect; there is one file
// for each:
//
//	postfix, QUERY, query             smtp_tls_policy_maps of every Postfix from 3.4
//	postfix-tlsrpt, QUERYwithTLSRPT   the same, with what Postfix 3.10 reports (RFC 8460)
//	transport                         transport_maps of Postfix: the port of implicit TLS, see transport.go
//	sts                               FEATURE(sts) of Sendmail: MTA-STS, also where DANE decides
//	tls                               rules in Sendmail's LOCAL_TLS_RCPT: everything else
//	exim                              ${readsocket} of Exim, with patterns expanded to MX names
//	verdict                           the verdict's name and source, for programs; as cheap as the others
//	json                              the whole ruling, for "policyd explain" and other programs;
//	                                  cut, and saying so, where it would not fit in a reply
//
// "No policy" is NOTFOUND, to Exim "OK level=none". Failure is always TEMP: the MTA
// keeps the mail. PERM is never sent, because
// Sendmail reads it as "not found" and delivers in clear text. An address literal
// or a parent-domain key has no policy, at once; an unknown map name is TEMP and an
// error in the log.
//
// The package decides nothing: what no dialect can spell is a deferral, never a
// weaker line.
package socketmapd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"golang.org/x/time/rate"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/explain"
	"tlsverdict/internal/fairqueue"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// Engine rules on destinations.
type Engine interface {
	Cached(nexthop.Destination) (engine.Ruled, bool)
	// Hold returns what Cached does, to be asked again, or nil.
	Hold(nexthop.Destination) *engine.Hold
	Rule(context.Context, nexthop.Destination) engine.Ruled
	Explain(context.Context, nexthop.Destination) *engine.Explanation
	Prepare(context.Context, nexthop.Destination)
}

// Options are the operator's settings for replies.
type Options struct {
	// Observe answers every policy question with "not found", one whose key is
	// no destination too, while everything is evaluated, logged and explained.
	// A map that does not exist is an error still.
	Observe bool
	// Deadline is how long an asker waits for a destination that is not known
	// yet; then the answer is TEMP and the work goes on for the next one.
	Deadline time.Duration
	// ReportLevel is the level at which the postfix-tlsrpt dialect hands over
	// what Postfix should report of unenforced policies; empty: not at all.
	ReportLevel string
	// Implicit is how implicit TLS is used; nil: not at all.
	Implicit *Implicit
	// Cold is told how long each asker waited for a verdict that was not known. It must not
	// wait. Optional.
	Cold func(time.Duration)
	// Log is required.
	Log *slog.Logger
}

// Responder answers socketmap requests. It is a postfixmap.Handler, safe for
// concurrent use.
type Responder struct {
	engine Engine
	opt    Options
	// strange limits the records of unknown maps: a misconfigured MTA asks for
	// each message.
	strange rate.Sometimes
	// reports are the reports being written.
	reports *fairqueue.Queue
	recent  *recent
	// warming limits what is worked out for the map transport.
	warming *rate.Limiter
	answers answers
}

const (
	// maxReports is how many reports may wait to be written, and reportWait how long.
	maxReports = 4096
	reportWait = 5 * time.Second
)

// New returns a Responder.
func New(e Engine, opt Options) *Responder {
	return &Responder{
		engine: e, opt: opt, strange: rate.Sometimes{Interval: time.Minute},
		reports: fairqueue.New(max(1, runtime.GOMAXPROCS(0)/2), maxReports),
		recent:  newRecent(),
		warming: rate.NewLimiter(warmRate, warmBurst),
		answers: newAnswers(),
	}
}

// dialect spells verdicts for one kind of MTA.
type dialect struct {
	name  string
	no    mapNo
	spell func(*Options, []byte, nexthop.Destination, engine.Ruled) []byte
	// none is the whole answer where there is no policy.
	none string
	// patience is how long the MTA waits for an answer, less what it takes to get
	// one there; 0 is longer than Options.Deadline ever is.
	patience time.Duration
	// program says that it is no MTA that asks: it is told what is only observed.
	program bool
}

const (
	notFound = "NOTFOUND "
	// Sendmail gives up on a map after 5 seconds, Exim as contrib has it after 10.
	sendmailPatience = 4 * time.Second
	eximPatience     = 8 * time.Second
)

// lookUp returns the dialect of a map.
func lookUp(mapName []byte) (d dialect, ok bool) {
	switch string(mapName) {
	case "postfix", "QUERY", "query":
		return dialect{name: "postfix", no: mapPostfix, spell: appendPostfix, none: notFound}, true
	case "postfix-tlsrpt", "QUERYwithTLSRPT":
		return dialect{name: "postfix-tlsrpt", no: mapTLSRPT, spell: appendTLSRPT, none: notFound}, true
	case "sts":
		return dialect{name: "sts", no: mapSTS, spell: appendSTS, none: notFound, patience: sendmailPatience}, true
	case "tls":
		return dialect{name: "tls", no: mapTLS, spell: appendTLS, none: notFound, patience: sendmailPatience}, true
	case "exim":
		return dialect{name: "exim", no: mapExim, spell: appendExim, none: eximNone, patience: eximPatience}, true
	case "verdict":
		return dialect{name: "verdict", no: mapVerdict, spell: appendVerdict, none: "OK none source=none", program: true}, true
	}
	return dialect{}, false
}

// dialects lists the maps whose replies a report shows: those that MTAs ask.
func dialects() []dialect {
	var out []dialect
	for _, name := range []string{"postfix", "postfix-tlsrpt", "sts", "tls", "exim"} {
		if d, ok := lookUp([]byte(name)); ok {
			out = append(out, d)
		}
	}
	return out
}

// maps names all that can be asked, for the log.
const maps = "postfix, postfix-tlsrpt, transport, sts, tls, exim, verdict, json"

// ServeMap answers one request. A verdict that is known costs no lock, a log record
// only at debug, and no allocation where the same question came lately.
func (r *Responder) ServeMap(ctx context.Context, req postfixmap.Request, reply []byte) []byte {
	debug := r.opt.Log.Enabled(ctx, slog.LevelDebug)
	slot := r.recent.slot(req)
	if a := slot.answer(req); a != nil && !debug && a.hold.Hit() {
		r.answers.Add(a.cell)
		return append(reply, a.text...)
	}
	in, ok := lookUp(req.Map)
	switch {
	case ok:
	case string(req.Map) == "transport":
		return r.transport(ctx, req, slot, reply)
	case string(req.Map) == "json":
		return r.report(fairqueue.WithClient(ctx, req.Client), string(req.Key), reply)
	default:
		return r.unknownMap(string(req.Map), reply)
	}
	d, err := nexthop.Parse(string(req.Key))
	if err != nil {
		r.answers.Add(cell(in.no, outcomeWithout(err)))
		if r.silent(in) {
			return append(reply, in.none...)
		}
		return in.noDestination(err, reply)
	}
	ruled, ok := r.engine.Cached(d)
	if !ok {
		return r.cold(fairqueue.WithClient(ctx, req.Client), in, d, reply)
	}
	r.answers.ruled(in.no, ruled)
	if debug {
		r.logHit(ctx, req.Map, d, ruled.Verdict)
	}
	if !r.about(d, ruled) && slot.again() {
		if hold := r.engine.Hold(d); hold != nil {
			slot.keep(req, hold, r.line(in, d, hold.Ruled()))
		}
	}
	return r.append(reply, in, d, ruled)
}

// cold answers a question whose verdict has to be waited for.
func (r *Responder) cold(ctx context.Context, in dialect, d nexthop.Destination, reply []byte) []byte {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, in.deadline(r.opt.Deadline))
	defer cancel()
	ruled := r.engine.Rule(ctx, d)
	if r.opt.Cold != nil {
		r.opt.Cold(time.Since(began))
	}
	r.answers.ruled(in.no, ruled)
	r.about(d, ruled)
	return r.append(reply, in, d, ruled)
}

// line is an answer to be kept.
func (r *Responder) line(in dialect, d nexthop.Destination, ruled engine.Ruled) line {
	return line{r.reply(in, d, ruled), cell(in.no, outcomeOf(ruled.Verdict))}
}

// silent reports whether the asker is told of no policy, whatever holds.
func (r *Responder) silent(in dialect) bool { return r.opt.Observe && !in.program }

// deadline is how long the asker waits.
func (in dialect) deadline(most time.Duration) time.Duration {
	if in.patience == 0 {
		return most
	}
	return min(in.patience, most)
}

// logHit writes the debug record of a question whose verdict was known; the engine
// writes one for each that it had to work out.
func (r *Responder) logHit(ctx context.Context, mapName []byte, d nexthop.Destination, v verdict.Verdict) {
	r.opt.Log.LogAttrs(ctx, slog.LevelDebug, "answered", slog.String("map", string(mapName)),
		slog.String("dest", d.String()), slog.String("verdict", v.Name()), slog.Bool("cached", true))
}

func (r *Responder) unknownMap(name string, reply []byte) []byte {
	r.answers.Add(cell(mapUnknown, outcomeRefused))
	r.strange.Do(func() {
		r.opt.Log.Error("a client asks for a map that does not exist", "map", name, "maps", maps)
	})
	return postfixmap.AppendTemp(reply, fmt.Sprintf("unknown map %q", name))
}

// noDestination answers a key that is no domain or host. Literals and parent keys
// are ordinary questions of Postfix to which there is no policy.
func (in dialect) noDestination(err error, reply []byte) []byte {
	if errors.Is(err, nexthop.ErrLiteral) || errors.Is(err, nexthop.ErrParent) {
		return append(reply, in.none...)
	}
	return postfixmap.AppendTemp(reply, err.Error())
}

// NothingApplies makes the report of a key that has no policy by its form: err is
// nexthop.ErrLiteral or ErrParent, as nexthop.Parse gave it. For other errors, and
// for none, it returns nil.
func NothingApplies(key string, err error) *explain.Report {
	var reason explain.Reason
	switch {
	case errors.Is(err, nexthop.ErrLiteral):
		reason = explain.Reason{
			Code: "address-literal", Cite: "tlsverdict: address literal",
			Text: "an address literal: no signal applies to it; nothing is looked up",
		}
	case errors.Is(err, nexthop.ErrParent):
		reason = explain.Reason{
			Code: "parent-domain", Cite: "RFC 8461 §3.4",
			Text: "a parent-domain key, which Postfix asks after a name that has no policy: no signal is inherited; nothing is looked up",
		}
	default:
		return nil
	}
	report := explain.Without(key, reason)
	report.Replies = make(map[string]string)
	for _, d := range dialects() {
		report.Replies[d.name] = string(d.noDestination(err, nil))
	}
	return report
}

// report answers the json map.
func (r *Responder) report(ctx context.Context, key string, reply []byte) []byte {
	d, err := nexthop.Parse(key)
	if err != nil {
		r.answers.Add(cell(mapJSON, outcomeWithout(err)))
		return dialect{none: notFound}.noDestination(err, reply)
	}
	var data []byte
	err = r.inTurn(ctx, d, func(x *engine.Explanation) (err error) {
		r.answers.ruled(mapJSON, x.InForce)
		data, err = marshal(r.Report(x))
		return err
	})
	switch {
	case errors.Is(err, ErrBusy):
		r.answers.Add(cell(mapJSON, outcomeRefused))
		return postfixmap.AppendTemp(reply, err.Error())
	case err != nil:
		r.opt.Log.Error("a report cannot be written", "dest", key, "error", err)
		return postfixmap.AppendTemp(reply, "internal error")
	}
	return append(append(reply, "OK "...), data...)
}

// rest waits, but not beyond the end of ctx.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// marshal writes a report so that it fits in a reply.
func marshal(report *explain.Report) ([]byte, error) {
	if err := report.Fit(postfixmap.MaxReply - len("OK ")); err != nil {
		return nil, err
	}
	return json.Marshal(report)
}

// reply is what the MTA is told of a ruling.
func (r *Responder) reply(in dialect, d nexthop.Destination, ruled engine.Ruled) string {
	return string(r.append(nil, in, d, ruled))
}

func (r *Responder) append(reply []byte, in dialect, d nexthop.Destination, ruled engine.Ruled) []byte {
	if r.silent(in) {
		return append(reply, in.none...)
	}
	return in.spell(&r.opt, reply, d, ruled)
}

// Report makes the report of an explanation, with the reply of each dialect.
func (r *Responder) Report(x *engine.Explanation) *explain.Report {
	report := explain.New(x)
	report.Replies = make(map[string]string)
	for _, in := range dialects() {
		report.Replies[in.name] = r.reply(in, x.Facts.Destination, x.InForce)
	}
	if would := r.would(x); would != nil {
		ruled := engine.Ruled{Verdict: would.Verdict, Source: would.Source, Until: x.InForce.Until}
		report.Observe(would, string(appendPostfix(&r.opt, nil, x.Facts.Destination, ruled)))
	}
	if report.Implicit = r.implicit(x); report.Implicit != nil && x.Facts.Destination.Port == nexthop.SMTPPort {
		report.Replies["transport"] = notFound
		if report.Implicit.Used {
			report.Replies["transport"] = string(r.appendTransport(nil, x.Facts.Destination))
		}
	}
	return report
}

// would is what MTAs would be told of if nothing were only observed, or nil.
func (r *Responder) would(x *engine.Explanation) *verdict.Would {
	_, none := x.InForce.Verdict.(verdict.NoPolicy)
	if !r.opt.Observe || none || x.Ruling.Would != nil {
		return x.Ruling.Would
	}
	return &verdict.Would{Verdict: x.InForce.Verdict, Source: x.InForce.Source, Reason: x.Ruling.Reasons[len(x.Ruling.Reasons)-1]}
}
