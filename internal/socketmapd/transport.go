package socketmapd

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/fnv"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/explain"
	"tlsverdict/internal/fairqueue"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// The map transport is for Postfix's transport_maps. It sends mail to the port of
// implicit TLS while a domain promises that, all of its MX hosts have lately been seen to
// keep it, and what is asked of them there is no less than on port 25. Otherwise the
// answer is NOTFOUND, and the mail takes the way that it would without this map: to port
// 25, with what the policy map says.
//
// So NOTFOUND is never wrong, and nothing else is ever said in doubt: no TEMP, and nobody
// waits. Postfix has one queue manager, which stands still while it asks; and it asks for
// recipients of strangers, before it refuses them. What is not known is worked out in the
// background, so many at a time, for the next one who asks.

const (
	// warmRate is how many unknown domains a second are worked out for this map, and
	// warmBurst how many at once: strangers choose them.
	warmRate  = 10
	warmBurst = 100
)

// Implicit is how implicit TLS is used.
type Implicit struct {
	// Port is where it is spoken.
	Port uint16
	// Transport is the name in master.cf of what begins with TLS.
	Transport string
	// Turn is for how long in each hour port 25 has its turn; 0: never. See turn.
	Turn time.Duration
	// Ports is required.
	Ports Ports
}

// turn reports whether it is port 25's turn for a domain, and until when.
//
// A probe sees what somebody on the way lets it see. Who lets probes pass and stops the
// mail alone would hold it up until it is returned, were it sent to one port only. So
// for a while in each hour it goes to port 25, where no less is asked of the hosts. When,
// is drawn anew for each hour and domain: an MTA that tries again at any fixed time, each
// hour perhaps, meets a turn with one in four of its tries, by default, and not all domains change at once.
func (i *Implicit) turn(domain string, now time.Time) (until time.Time, ok bool) {
	if i.Turn <= 0 {
		return time.Time{}, false
	}
	hour := now.Truncate(time.Hour)
	h := fnv.New64a()
	// It never fails.
	_, _ = io.WriteString(h, domain)
	_ = binary.Write(h, binary.BigEndian, hour.Unix())
	// A turn that begins late goes on at the beginning of its hour, so that no minute of
	// the hour has less of a chance than another.
	drawn, at := time.Duration(mixed(h.Sum64())%uint64(time.Hour)), now.Sub(hour)
	switch early := drawn + i.Turn - time.Hour; {
	case at < early:
		return hour.Add(early), true
	case at >= drawn && at < drawn+i.Turn:
		return hour.Add(min(drawn+i.Turn, time.Hour)), true
	}
	return time.Time{}, false
}

// mixed spreads a hash whose last octets were nearly the same over all its bits.
func mixed(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	return h ^ h>>33
}

// Ports knows which hosts speak implicit TLS. None of its methods waits.
type Ports interface {
	// Good reports whether a host has lately proved itself.
	Good(host string) bool
	// Want has hosts looked at of which it is not known; Renew has all of them looked
	// at soon, because somebody is about to connect to them.
	Want(hosts []string)
	Renew(hosts []string)
	// State tells about a host.
	State(host string) explain.Port
}

// Told is for engine.Config.Told: it has the ports of hosts looked at that promise
// implicit TLS, and what will be asked of them there worked out.
func (r *Responder) Told(d nexthop.Destination, ruled engine.Ruled) {
	if r.opt.Implicit == nil {
		return
	}
	r.opt.Implicit.Ports.Want(ruled.Beside.Implicit)
	if d.Port == nexthop.SMTPPort {
		r.engine.Prepare(context.Background(), r.there(d))
	}
}

// there is a destination on the port of implicit TLS.
func (r *Responder) there(d nexthop.Destination) nexthop.Destination {
	d.Port = r.opt.Implicit.Port
	return d
}

// about has the hosts looked at that an MTA is about to connect to, on the port of
// implicit TLS: if that fails, the next try should know. It reports whether there are any.
func (r *Responder) about(d nexthop.Destination, ruled engine.Ruled) bool {
	i := r.opt.Implicit
	if i == nil || d.Port != i.Port || !promised(ruled) {
		return false
	}
	i.Ports.Renew(ruled.Beside.Implicit)
	return true
}

// transport answers one question of transport_maps. That there is no promise is kept
// with the question, as long as the verdict holds.
func (r *Responder) transport(ctx context.Context, req postfixmap.Request, slot place, reply []byte) []byte {
	d, use := r.elsewhere(ctx, req, slot)
	if !use {
		r.answers.Add(cell(mapTransport, outcomeNone))
		return postfixmap.AppendNotFound(reply)
	}
	r.answers.Add(cell(mapTransport, outcomeImplicit))
	return r.appendTransport(reply, d)
}

// elsewhere reports whether mail for the domain of a question goes to the port of implicit
// TLS. It is not said in observe mode.
func (r *Responder) elsewhere(ctx context.Context, req postfixmap.Request, slot place) (d nexthop.Destination, use bool) {
	if r.opt.Implicit == nil {
		return d, false
	}
	d, ok := recipient(req.Key)
	if !ok {
		return d, false
	}
	ruled, ok := r.engine.Cached(d)
	if !ok {
		r.warm(fairqueue.WithClient(ctx, req.Client), d)
		return d, false
	}
	if !promised(ruled) {
		if slot.again() {
			if hold := r.engine.Hold(d); hold != nil && !promised(hold.Ruled()) {
				slot.keep(req, hold, line{notFound, cell(mapTransport, outcomeNone)})
			}
		}
		return d, false
	}
	if !r.usable(d, ruled) || r.opt.Observe {
		return d, false
	}
	if _, ok := r.opt.Implicit.turn(d.Name, time.Now()); ok {
		return d, false
	}
	if r.opt.Log.Enabled(ctx, slog.LevelDebug) {
		r.logHit(ctx, req.Map, d, ruled.Verdict)
	}
	return d, true
}

// appendTransport writes the way to the port of implicit TLS: by MX, since the name has
// no brackets.
func (r *Responder) appendTransport(dst []byte, d nexthop.Destination) []byte {
	i := r.opt.Implicit
	dst = append(append(append(dst, "OK "...), i.Transport...), ':')
	dst = append(append(dst, d.Name...), ':')
	return strconv.AppendUint(dst, uint64(i.Port), 10)
}

// warm has an unknown domain worked out, unless that is asked too often.
func (r *Responder) warm(ctx context.Context, d nexthop.Destination) {
	if r.warming.Allow() {
		r.engine.Prepare(ctx, d)
	}
}

// promised reports whether a ruling has hosts that promise implicit TLS.
func promised(ruled engine.Ruled) bool {
	return ruled.Beside != nil && ruled.Beside.Implicit != nil
}

// usable reports whether mail for a domain, on which the ruling is known, can go to the
// port of implicit TLS now. What is missing for that is looked for.
func (r *Responder) usable(d nexthop.Destination, ruled engine.Ruled) bool {
	if !promised(ruled) {
		return false
	}
	there, ok := r.engine.Cached(r.there(d))
	if !ok {
		r.engine.Prepare(context.Background(), r.there(d))
		return false
	}
	if !noLess(there, ruled) {
		return false
	}
	good := true
	for _, host := range there.Beside.Implicit {
		good = r.opt.Implicit.Ports.Good(host) && good
	}
	if !good {
		r.opt.Implicit.Ports.Want(there.Beside.Implicit)
	}
	return good
}

// noLess reports whether what is asked on the other port is known, and no less than on
// port 25. TLSA records belong to one port (RFC 7672 §2.2.3): a domain may have them
// for port 25 alone, and whoever has only a certificate from some authority must not get
// its mail on another port.
func noLess(there, here engine.Ruled) bool {
	if !promised(there) {
		return false
	}
	_, waits := there.Verdict.(verdict.Defer)
	return !waits && verdict.Strictness(there.Verdict) >= verdict.Strictness(here.Verdict)
}

// recipient returns the domain of a key of transport_maps: user@example.com, with
// whatever before the last "@" (user+extension, a quoted local part with an "@" in it), or
// example.com alone. False: there is none that mail could go to by MX, as in "*", in
// ".example.com", in the empty key, in "user@[192.0.2.1]", and in a name without a dot.
func recipient(key []byte) (nexthop.Destination, bool) {
	domain := key[bytes.LastIndexByte(key, '@')+1:]
	if bytes.IndexByte(domain, '.') <= 0 || domain[0] == '[' {
		return nexthop.Destination{}, false
	}
	d, err := nexthop.Parse(string(domain))
	if err != nil || d.Host || d.Port != nexthop.SMTPPort || strings.IndexByte(d.Name, '.') < 0 {
		return nexthop.Destination{}, false
	}
	return d, true
}

// implicit tells whether and why a domain's mail goes to the port of implicit TLS; nil
// where it does not promise that.
func (r *Responder) implicit(x *engine.Explanation) *explain.Implicit {
	i := r.opt.Implicit
	hosts := x.Facts.Promised()
	if i == nil || len(hosts) == 0 {
		return nil
	}
	d := x.Facts.Destination
	out := &explain.Implicit{Port: int(i.Port), Transport: i.Transport}
	for _, host := range hosts {
		out.Hosts = append(out.Hosts, i.Ports.State(host))
	}
	if d.Port != nexthop.SMTPPort {
		return out
	}
	there, known := r.engine.Cached(r.there(d))
	until, turn := i.turn(d.Name, time.Now())
	switch {
	case x.Facts.Own != "":
		out.Because = "the MTA here has a way of its own for this domain: " + x.Facts.Own
	case !promised(x.InForce):
		out.Because = "the verdict is " + x.InForce.Verdict.Name()
	case !known:
		out.Because = "what is asked on that port is not known yet"
	case !noLess(there, x.InForce):
		out.Because = "on that port the verdict is " + there.Verdict.Name() + " by " + there.Source.String() + ", which is less than " + x.InForce.Verdict.Name() + " by " + x.InForce.Source.String()
	case !r.usable(d, x.InForce):
		out.Because = "not every host has proved itself lately"
	case r.opt.Observe:
		out.Because = "this daemon only observes"
	case turn:
		out.Because = "it is the turn of port 25 until " + until.UTC().Format("15:04:05") + " UTC"
	default:
		out.Used = true
	}
	return out
}
