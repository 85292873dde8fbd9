package verdict

import (
	"fmt"
	"slices"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/signal"
)

// Decide is the one place where it is decided how strict TLS must be. The
// ladder, first match wins:
//
//  1. the operator's override
//  2. MX lookup failed: defer; no such domain or null MX: no policy
//  3. DANE on every host that can be used: dane-only
//  4. DANE on some hosts: dane, or dane-only where another signal demands
//     authentication everywhere
//  5. only unusable TLSA records: encrypt, or what another signal demands
//  6. TLSA records behind unsigned MX records: an enforced MTA-STS policy, else dane
//  7. an enforced MTA-STS policy
//  8. the prefix
//  9. the pins of all hosts by their banners; the TXT record and the record type
//  10. nothing
//
// On the port of implicit TLS no less than TLS is demanded; see implicit.go.
//
// Where the MTA cannot look TLSA records up itself (Rules.DANE), rungs 3 to 6 answer
// with fingerprints, or with what else holds no host to less; see enforce.go.
//
// It is a pure function: the same facts give the same ruling. It panics where it
// would have to decide on something that was never asked for.
func Decide(f Facts) Ruling {
	d := decision{f: &f}
	v, source := d.wrapped(d.ladder())
	beside := d.beside(v)
	if d.missing != FromNothing {
		panic("verdict: a decision on a record that was never asked for, " + d.missing.String() + ": " + d.name())
	}
	return Ruling{
		Verdict:     v,
		Source:      source,
		Reasons:     d.reasons,
		TTL:         d.lifetime(v, beside.Policy()),
		Provisional: d.provisional,

		ByEnforcement: d.byEnforcement,
		Beside:        beside,
		Would:         f.would(v),
	}
}

// STSMatters reports whether the MTA-STS policy can still change the verdict.
// Where it cannot, nobody need wait for it.
func STSMatters(f Facts) bool {
	if f.Rules.STS == Off || f.active() != nil {
		return false
	}
	if f.Rules.WithoutDNSSEC {
		return true
	}
	if !f.Destination.Host {
		if f.MX.Broken() {
			return false
		}
		if f.MX.Proof != Secure {
			return true
		}
		if f.Gone() {
			return false
		}
	}
	if f.unprovenHost() {
		return true
	}
	t := count(f.Hosts)
	strict := t.of(usable) > 0 && t.of(plain, unusable) == 0
	stuck := t.of(usable, plain, unusable) == 0 && t.of(unreachable, uncertain) > 0
	return !strict && !stuck
}

// active returns the override, unless it has ended.
func (f *Facts) active() *Override {
	if f.Override == nil || !f.Override.Until.IsZero() && !f.Now.Before(f.Override.Until) {
		return nil
	}
	return f.Override
}

// Gone reports whether the MX answer says that there is nowhere to deliver to: no
// such domain, or a null MX (RFC 7505 §3).
func (f *Facts) Gone() bool {
	return f.MX.Outcome == NXDomain || f.nullMX()
}

// nullMX: RFC 7505 §3: a null MX must be the only record.
func (f *Facts) nullMX() bool {
	return f.MX.Outcome == Found && len(f.MX.Records) == 1 && f.MX.Records[0].Host == ""
}

// decision is a ladder being climbed.
type decision struct {
	f           *Facts
	reasons     []Reason
	provisional bool
	// byEnforcement: see Ruling. unwritten: mail waits, and not for a lookup.
	byEnforcement, unwritten bool
	// demanded is what demand found, once it was asked.
	demanded *demanded
	// missing is a record that was needed and never asked for.
	missing Source
	// also are the lifetimes of records that count.
	also shortest
}

type demanded struct {
	verdict Verdict
	source  Source
}

func (d *decision) say(c Code, subject, detail string) {
	d.reasons = append(d.reasons, Reason{c, subject, detail})
}

// name is the destination's name, the subject of most reasons.
func (d *decision) name() string { return d.f.Destination.Name }

func (d *decision) ladder() (Verdict, Source) {
	if o := d.f.active(); o != nil {
		return d.override(o), FromOverride
	}
	if v, source := d.mx(); v != nil {
		return v, source
	}
	if d.f.unprovenHost() {
		return d.unproven()
	}
	if d.f.Rules.WithoutDNSSEC {
		d.say(DNSSECOff, d.name(), "")
	} else if v, source := d.dane(); v != nil {
		return v, source
	}
	return d.orNothing(d.demand())
}

func (d *decision) override(o *Override) Verdict {
	if o.Level == "" {
		d.say(OverrideIgnore, d.name(), o.Reason)
		return NoPolicy{}
	}
	d.say(Overridden, d.name(), o.Reason)
	return Fixed{Level: o.Level, Attributes: o.Attributes}
}

// orNothing ends the ladder: what a signal demands, or no policy.
func (d *decision) orNothing(v Verdict, source Source) (Verdict, Source) {
	if v != nil {
		return v, source
	}
	d.say(Nothing, d.name(), "")
	return NoPolicy{Report: d.report()}, FromNothing
}

// mx reads the MX answer (RFC 5321 §5.1). A nil verdict means: look at the hosts.
func (d *decision) mx() (Verdict, Source) {
	f := d.f
	if f.Destination.Host {
		d.say(MXNotAsked, d.name(), "")
		return nil, FromNothing
	}
	if f.MX.Broken() {
		d.say(MXFailed, d.name(), f.MX.Failure.Detail)
		return d.failed("the MX lookup of "+d.name()+" failed", f.MX.Failure), FromNothing
	}
	if f.MX.Proof == Indeterminate && !f.Rules.WithoutDNSSEC {
		return d.unproven()
	}
	if f.Gone() {
		return d.nowhere()
	}
	switch {
	case f.MX.Outcome == NoData:
		d.say(MXImplicit, d.name(), "the denial is "+f.MX.Proof.String())
	case f.MX.Proof == Secure:
		d.say(MXSecure, d.name(), "")
	case f.MX.Proof == Insecure:
		d.say(MXInsecure, d.name(), "")
	}
	return nil, FromNothing
}

// unprovenHost is the case of MXUnproven for a destination that is a host.
func (f *Facts) unprovenHost() bool {
	if !f.Destination.Host || f.Rules.WithoutDNSSEC {
		return false
	}
	a := f.Hosts[0].Addresses()
	return (a.Found || a.Failure == nil) && a.Proof == Indeterminate
}

// unproven is for a host on which DNSSEC validation does not work. Whether the
// domain has DANE cannot be known; a policy that HTTPS vouches for can be had
// all the same (RFC 8461 §2), and without one mail waits: an unproven answer is
// never read as an unsigned one.
func (d *decision) unproven() (Verdict, Source) {
	d.provisional = true
	d.say(MXUnproven, d.name(), "")
	if v, source := d.demand(); v != nil {
		return v, source
	}
	d.say(NoProof, d.name(), "")
	return d.failed("no proof for the MX records of "+d.name(), unvalidated()), FromNothing
}

// nowhere is for a domain without a place to deliver to. Unless the denial is
// proven, it may be a lie told to us and not to the MTA, so a policy that is
// known stays in force (RFC 8461 §5.1): it costs nothing where the denial is true.
func (d *decision) nowhere() (Verdict, Source) {
	if d.f.MX.Outcome == NXDomain {
		d.say(MXNoDomain, d.name(), "the denial is "+d.f.MX.Proof.String())
	} else {
		d.say(MXNull, d.name(), "the record is "+d.f.MX.Proof.String())
	}
	if d.f.MX.Proof != Secure {
		if v, source := d.demand(); v != nil {
			return v, source
		}
	}
	return d.orNothing(nil, FromNothing)
}

// dane climbs rungs 3 to 6. A nil verdict means that DANE has nothing to say.
func (d *decision) dane() (Verdict, Source) {
	t := count(d.f.Hosts)
	for _, j := range t.hosts {
		d.reasons = append(d.reasons, j.reason)
	}
	if t.of(unreachable, uncertain) > 0 {
		d.provisional = true
	}
	if !d.f.Destination.Host && d.f.MX.Proof == Insecure {
		return d.daneInsecureMX(&t)
	}
	switch {
	case t.of(usable) > 0 && t.of(plain, unusable) == 0:
		if d.f.Rules.STS != Off && !d.f.STS.Settled {
			d.say(STSSkipped, d.name(), "")
		}
		d.say(DANEAll, d.name(), "")
		return d.onlyDANE(&t)
	case t.of(usable) > 0:
		return d.daneSome(&t)
	case t.of(unreachable, uncertain) > 0 && t.of(plain, unusable) == 0:
		d.say(NoHostLeft, d.name(), "")
		return d.failed("no MX host of "+d.name()+" can be judged", t.failure()), FromDANE
	case t.of(unreachable, uncertain) > 0:
		return d.daneUnknown(&t)
	case t.of(unusable) > 0 && t.of(plain) == 0:
		return d.allUnusable()
	case t.of(unusable) > 0:
		if v, source := d.demand(); v != nil {
			return v, source
		}
		d.say(DANESome, d.name(), "")
		return d.eachDANE(&t)
	}
	return nil, FromNothing
}

// daneSome answers "dane", unless another signal demands authentication of
// every host: RFC 8461 §2 forbids that it overrides DANE, so neither is weakened,
// and only hosts with usable TLSA records are left. The same where it demands TLS only:
// "dane" lets hosts without TLSA records do without.
func (d *decision) daneSome(t *tally) (Verdict, Source) {
	v, _ := d.demand()
	if v == nil {
		d.say(DANESome, d.name(), "")
		return d.eachDANE(t)
	}
	switch v.(type) {
	case Encrypt:
		d.say(DANERaisedTLS, d.name(), "")
	case Defer:
		d.say(DANERaised, d.name(), "or may, which is not known yet")
	default:
		d.say(DANERaised, d.name(), "")
	}
	return d.onlyDANE(t)
}

// daneUnknown is for hosts without usable TLSA records beside others that may
// have some. "dane" lets the MTA find out for each. Where another signal demands
// authentication it is granted, but only by certificates for the hosts that
// provably have none: a host that DANE may protect is not used (RFC 8461 §2),
// and the ones that work are not lost with it (RFC 7672 §2.1.2).
func (d *decision) daneUnknown(t *tally) (Verdict, Source) {
	v, source := d.demand()
	if v == nil && t.hidden() < 0 && t.of(unusable) == 0 && !d.native() {
		return nil, FromNothing // no host has TLSA records that count
	}
	if v == nil {
		d.say(DANESome, d.name(), "")
		return d.eachDANE(t)
	}
	hosts := writable(t.names(d.f.Hosts, plain, unusable))
	switch v := v.(type) {
	case STS:
		hosts = slices.DeleteFunc(hosts, func(name string) bool { return !d.f.STS.Policy.Policy.Match(name) })
		if len(hosts) > 0 {
			d.say(DANENarrowed, d.name(), "")
			return STS{Domain: v.Domain, Patterns: hosts, Lines: v.Lines, Hosts: hosts[:min(len(hosts), MaxNames)]}, source
		}
	case WebPKI:
		if len(hosts) > 0 {
			d.say(DANENarrowed, d.name(), "")
			return WebPKI{Hosts: hosts}, source
		}
	case Encrypt:
		return d.encryptUnknown(t, source)
	case Defer:
		return v, source
	default:
		panic(fmt.Sprintf("verdict: a demand of type %T", v))
	}
	d.say(DANENoHost, d.name(), "")
	return d.failed("the MX hosts of "+d.name()+" that may have TLSA records cannot be judged", t.failure()), FromDANE
}

// encryptUnknown is for TLS that another signal demands, beside hosts that may have TLSA
// records. "encrypt" would have these used without them, and "dane" the others without
// TLS; no line says both, so that mail waits for the lookup.
func (d *decision) encryptUnknown(t *tally, source Source) (Verdict, Source) {
	host := t.hidden()
	if host < 0 {
		return Encrypt{}, source // no host has TLSA records that count
	}
	d.say(DANEOrTLS, d.f.Hosts[host].Name, "")
	return d.failed(d.f.Hosts[host].Name+" may have TLSA records that could not be looked up", t.hosts[host].failure), FromDANE
}

// allUnusable: RFC 7672 §2.2: TLS is mandatory and cannot be authenticated by
// DANE; a signal that can authenticate it does.
func (d *decision) allUnusable() (Verdict, Source) {
	if v, source := d.demand(); v != nil {
		return v, source
	}
	d.say(DANEEncrypt, d.name(), "")
	return Encrypt{}, FromDANE
}

// daneInsecureMX: RFC 7672 §2.2.1: whoever can forge the MX records chooses the
// host, so DANE proves little; an enforced MTA-STS policy names the hosts and
// goes first.
func (d *decision) daneInsecureMX(t *tally) (Verdict, Source) {
	v, source := d.demand()
	if v == nil {
		return d.daneAlone(t)
	}
	if _, ok := v.(Encrypt); ok {
		return d.encryptInsecureMX(t, source)
	}
	return v, source
}

// daneAlone is rung 6 where nothing else demands anything.
func (d *decision) daneAlone(t *tally) (Verdict, Source) {
	if t.of(usable, unusable, uncertain) > 0 {
		return d.optionalDANE(t)
	}
	if t.of(unreachable) > 0 && t.of(plain) == 0 {
		d.say(NoHostLeft, d.name(), "")
		return d.failed("no MX host of "+d.name()+" has an address that can be looked up", t.failure()), FromNothing
	}
	return nil, FromNothing
}

// encryptInsecureMX is for TLS that another signal demands: what DANE comes to stays,
// unless a host could then do without TLS.
func (d *decision) encryptInsecureMX(t *tally, source Source) (Verdict, Source) {
	said := len(d.reasons)
	v, from := d.daneAlone(t)
	switch v.(type) {
	case Encrypt, Fingerprint, Defer:
		return v, from
	case DANE:
		if t.of(plain, unreachable, uncertain) == 0 {
			return v, from
		}
	}
	d.reasons = d.reasons[:said]
	return Encrypt{}, source
}

// demand returns what the signals beside DANE ask for, or nil. Several rungs may
// ask; the reasons are given once.
func (d *decision) demand() (Verdict, Source) {
	if d.demanded == nil {
		v, source := d.sts()
		if v == nil {
			v, source = d.prefix()
		}
		if v == nil {
			v, source = d.last()
		}
		d.demanded = &demanded{v, source}
	}
	return d.demanded.verdict, d.demanded.source
}

// sts reads the MTA-STS policy; a nil verdict means that none is enforced.
func (d *decision) sts() (Verdict, Source) {
	s := &d.f.STS
	if d.f.Rules.STS == Off {
		d.say(STSOff, d.name(), "")
		return nil, FromNothing
	}
	if !s.Settled {
		panic("verdict: a decision on an MTA-STS policy whose lookup has not ended: " + d.name())
	}
	if s.Policy == nil || !s.Policy.Fresh(d.f.Now) {
		return d.withoutSTS()
	}
	if s.Failure != nil {
		d.provisional = true
		d.say(STSHeld, d.name(), s.Failure.Detail)
	}
	switch s.Policy.Policy.Mode {
	case mtasts.ModeTesting:
		d.say(STSTesting, d.name(), "")
		return nil, FromNothing
	case mtasts.ModeNone:
		d.say(STSNone, d.name(), "")
		return nil, FromNothing
	case mtasts.ModeEnforce:
		return d.enforceSTS(s.Policy)
	}
	panic(fmt.Sprintf("verdict: MTA-STS mode %v", s.Policy.Policy.Mode))
}

// withoutSTS: RFC 8461 §3.3: without a cached policy a failure is as if there
// were none, but one that is looked for again soon.
func (d *decision) withoutSTS() (Verdict, Source) {
	if f := d.f.STS.Failure; f != nil && f.Unfinished {
		d.say(STSUnfinished, d.name(), f.Detail)
		if d.f.Rules.STS == Observe {
			return nil, FromNothing
		}
		return d.failed("the MTA-STS policy of "+d.name()+" is not known yet", &f.Failure), FromSTS
	}
	if r := &d.f.STS.Record; r.Proof == Bogus {
		return d.bogusSTS(r.Failure)
	}
	if f := d.f.STS.Failure; f != nil {
		d.provisional = true
		d.say(STSFailed, d.name(), f.Detail)
	} else {
		d.say(STSAbsent, d.name(), "")
	}
	return nil, FromNothing
}

// bogusSTS: an answer that does not hold is no answer (RFC 4035 §5.5), and shows more
// than none does: in a signed zone somebody forges the record that announces a policy,
// or its denial. RFC 8461 §3.1 has a missing record mean that there is no policy, and
// that is what the forgery would gain.
func (d *decision) bogusSTS(f *Failure) (Verdict, Source) {
	d.provisional = true
	d.say(STSBogus, d.name(), f.Detail)
	if d.f.Rules.STS == Observe {
		return nil, FromNothing
	}
	return d.failed("the MTA-STS record of "+d.name()+" cannot be trusted", f), FromSTS
}

func (d *decision) enforceSTS(p *mtasts.Cached) (Verdict, Source) {
	if d.f.Rules.STS == Observe {
		d.say(STSObserved, d.name(), "")
		return nil, FromNothing
	}
	for _, host := range d.mxNames() {
		if !p.Policy.Match(host) {
			d.say(STSUnlisted, host, "")
		}
	}
	d.say(STSEnforce, d.name(), few(p.Policy.MX))
	patterns := p.Policy.Renderable()
	if len(patterns) == 0 {
		d.say(STSUnwritable, d.name(), "")
		return Defer{Remote, "the MTA-STS policy of " + d.name() + " lists no host name that an MX could have"}, FromSTS
	}
	v := d.policy(patterns, spell(patterns))
	v.Lines = p.Policy.Lines
	return v, FromSTS
}

// report is what TLSRPT should hear of where nothing is enforced.
func (d *decision) report() *STSReport {
	s := &d.f.STS
	switch {
	case d.f.Rules.STS != Enforce || !s.Settled:
		return nil
	case s.Policy != nil && s.Policy.Fresh(d.f.Now) && s.Policy.Policy.Mode == mtasts.ModeTesting:
		p := &s.Policy.Policy
		return &STSReport{Domain: s.Policy.Domain, Patterns: spell(p.Renderable()), Lines: p.Lines}
	case s.Failure != nil && s.Failure.Result != "":
		return &STSReport{Domain: d.name(), Result: s.Failure.Result}
	}
	return nil
}

// mxNames are the names that the prefix and MTA-STS patterns are about.
func (d *decision) mxNames() []string {
	if d.f.Destination.Host || d.f.MX.Outcome != Found {
		return []string{d.name()}
	}
	names := make([]string, 0, len(d.f.MX.Records))
	for _, mx := range d.f.MX.Records {
		if mx.Host != "" && !slices.Contains(names, mx.Host) {
			names = append(names, mx.Host)
		}
	}
	return names
}

// prefix: believed only where the MX records are secure and every name carries
// it; see package signal.
func (d *decision) prefix() (Verdict, Source) {
	f := d.f
	if f.Rules.Prefix == Off || f.Rules.WithoutDNSSEC || f.Destination.Host || f.MX.Outcome != Found {
		return nil, FromNothing
	}
	names := d.mxNames()
	with := 0
	for _, name := range names {
		if signal.ParsePrefix(name) != signal.NoPrefix {
			with++
		}
	}
	switch {
	case with == 0: // also where there is no name at all
		return nil, FromNothing
	case with < len(names):
		d.say(PrefixMixed, d.name(), fmt.Sprintf("%d of %d", with, len(names)))
		return nil, FromNothing
	case f.MX.Proof != Secure:
		d.say(PrefixUnsigned, d.name(), "")
		return nil, FromNothing
	case f.Rules.Prefix == Observe:
		d.say(PrefixObserved, d.name(), "")
		return nil, FromNothing
	}
	d.say(PrefixAll, d.name(), "")
	hosts := writable(names)
	if len(hosts) == 0 {
		return Defer{Remote, "no MX name of " + d.name() + " is a host name that a certificate could be for"}, FromPrefix
	}
	return WebPKI{Hosts: hosts}, FromPrefix
}

// failed returns the deferral that a failure causes; what says what cannot be known.
func (d *decision) failed(what string, f *Failure) Defer {
	d.provisional = true
	text := what + ": " + f.Detail
	if f.Fault == Operator && d.f.Trouble != "" {
		text += ": " + d.f.Trouble
	}
	return Defer{Fault: f.Fault, Text: text}
}

// lifetime is the least of the lifetimes of all that was learned and is told.
func (d *decision) lifetime(v Verdict, beside *STS) time.Duration {
	f := d.f
	if o := f.active(); o != nil {
		return d.overrideLifetime(o)
	}
	var s shortest
	addAnswer(&s, f.MX)
	for i := range f.Hosts {
		h := &f.Hosts[i]
		addAnswer(&s, h.A)
		addAnswer(&s, h.AAAA)
		addAnswer(&s, h.Link)
		for _, l := range h.TLSA {
			addAnswer(&s, l.Answer)
		}
	}
	addAnswer(&s, f.STS.Record)
	if d.also.any {
		s.add(d.also.ttl)
	}
	if p := f.STS.Policy; p != nil && (f.STS.Settled || beside != nil) {
		s.add(p.Expires().Sub(f.Now))
	}
	if _, deferred := v.(Defer); deferred && !d.unwritten || !s.any {
		s.add(FailureTTL)
	}
	return s.ttl
}

// overrideLifetime: an override needs no refresh, only an end.
func (d *decision) overrideLifetime(o *Override) time.Duration {
	if o.Until.IsZero() {
		return 24 * time.Hour
	}
	return o.Until.Sub(d.f.Now)
}

func spell(patterns []mtasts.Pattern) []string {
	out := make([]string, len(patterns))
	for i, p := range patterns {
		out[i] = p.String()
	}
	return out
}

// writable drops names that are no host names: no certificate can be valid for them.
func writable(names []string) []string {
	var out []string
	for _, name := range names {
		if n, err := nexthop.Normalize(name); err == nil && n == name {
			out = append(out, name)
		}
	}
	return out
}
