package gather

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/signal"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

const strictText = "v=SMTPSTRICT1; tls=required"

// strictRig is one with both records on, and what is published of them.
func strictRig(z *zone, mode verdict.Mode) *rig {
	r := newRig(z, &web{})
	r.Rules.TXT, r.Rules.RR, r.Rules.RRType = mode, mode, signal.DefaultRRType
	return r
}

// plainHosts are hosts without TLSA records.
func plainHosts(n int) *zone {
	z := hosts(n)
	z.tlsa = nil
	return z
}

// TestRecordsCostNoRound: they are asked for with the MX records.
func TestRecordsCostNoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := plainHosts(2)
		z.txt = map[string]verdict.Answer[string]{"_smtp-strict." + domain: found(verdict.Secure, strictText)}
		z.private = map[string]verdict.Answer[string]{domain: found(verdict.Secure, signal.RData(strictText+"; auth=webpki"))}
		f, took := strictRig(z, verdict.Enforce).facts(t)
		if took != 3*rtt || z.count("TYPE65400") != 1 {
			t.Errorf("took %v, asked %q", took, z.asked)
		}
		if r := verdict.Decide(f); r.Verdict.Name() != "secure" || r.Source != verdict.FromRR {
			t.Errorf("%s from %v", r.Verdict.Name(), r.Source)
		}
	})
}

// TestRecordsOffAreNotAsked: what is off costs nothing.
func TestRecordsOffAreNotAsked(t *testing.T) {
	for _, rules := range []verdict.Rules{{}, {TXT: verdict.Enforce, RR: verdict.Enforce, RRType: 65400, WithoutDNSSEC: true}} {
		synctest.Test(t, func(t *testing.T) {
			z := plainHosts(1)
			r := newRig(z, &web{})
			r.Rules = rules
			f, _ := r.facts(t)
			if z.count("TXT")+z.count("TYPE65400") != 0 || f.TXT.Outcome != verdict.Unasked {
				t.Errorf("asked %q", z.asked)
			}
		})
	}
}

// TestRecordsAreWaitedForWhereTheyMatter: a name server that keeps silent about them
// delays no verdict on which they have no bearing.
func TestRecordsAreWaitedForWhereTheyMatter(t *testing.T) {
	policy := func(t *testing.T, z *zone, r *rig) {
		z.txt = map[string]verdict.Answer[string]{"_mta-sts." + domain: found(verdict.Insecure, "v=STSv1; id=1;")}
		r.web.policy = enforced(t)
	}
	for name, tc := range map[string]struct {
		zone   *zone
		mode   verdict.Mode
		change func(*testing.T, *zone, *rig)
		took   time.Duration
		want   string
	}{
		"nothing else asks":   {zone: plainHosts(2), mode: verdict.Enforce, took: time.Second, want: "none"},
		"observed":            {zone: plainHosts(2), mode: verdict.Observe, took: 3 * rtt, want: "none"},
		"DANE":                {zone: hosts(2), mode: verdict.Enforce, took: 3 * rtt, want: "dane-only"},
		"MTA-STS":             {zone: plainHosts(2), mode: verdict.Enforce, change: policy, took: 3 * rtt, want: "secure"},
		"unsigned":            {zone: plainHosts(2), mode: verdict.Enforce, change: func(_ *testing.T, z *zone, _ *rig) { z.mx.Proof = verdict.Insecure }, took: 3 * rtt, want: "none"},
		"no such domain":      {zone: &zone{mx: verdict.Answer[verdict.MX]{Outcome: verdict.NXDomain, Proof: verdict.Secure}}, mode: verdict.Enforce, took: rtt, want: "none"},
		"the MX lookup fails": {zone: &zone{mx: verdict.Fail[verdict.MX](verdict.Remote, "SERVFAIL")}, mode: verdict.Enforce, took: rtt, want: "defer"},
		"prefix": {zone: plainHosts(1), mode: verdict.Enforce, change: func(_ *testing.T, z *zone, _ *rig) {
			z.mx.Records[0].Host = "starttls-mx.example.com"
			z.addrs["starttls-mx.example.com"] = found(verdict.Secure, addr)
		}, took: 3 * rtt, want: "secure"},
		"DANE for some": {zone: hosts(2), mode: verdict.Enforce, change: func(_ *testing.T, z *zone, _ *rig) {
			z.tlsa["_25._tcp.mx0.example.com"] = verdict.Answer[tlsa.Record]{Outcome: verdict.NoData, Proof: verdict.Secure}
		}, took: time.Second, want: "dane"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.zone.slow = map[string]time.Duration{"_smtp-strict." + domain: time.Second}
				r := strictRig(tc.zone, tc.mode)
				if tc.change != nil {
					tc.change(t, tc.zone, r)
				}
				f, took := r.facts(t)
				if v := verdict.Decide(f).Verdict.Name(); took != tc.took || v != tc.want {
					t.Errorf("%s after %v, want %s after %v", v, took, tc.want, tc.took)
				}
			})
		})
	}
}

// TestOneRecordIsEnough: where the TXT record demands certificates the record type has
// nothing to add.
func TestOneRecordIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := plainHosts(1)
		z.txt = map[string]verdict.Answer[string]{"_smtp-strict." + domain: found(verdict.Secure, strictText+"; auth=webpki")}
		z.private = map[string]verdict.Answer[string]{}
		r := strictRig(z, verdict.Enforce)
		r.Open = func() Session { return &slowType{z} }
		f, took := r.facts(t)
		if v := verdict.Decide(f); took != 3*rtt || v.Source != verdict.FromTXT || f.RR.Outcome != verdict.Unasked {
			t.Errorf("%s from %v after %v", v.Verdict.Name(), v.Source, took)
		}
	})
}

// slowType keeps silent about the record type.
type slowType struct{ *zone }

func (s *slowType) Private(ctx context.Context, _ string, _ uint16) verdict.Answer[string] {
	<-ctx.Done()
	return verdict.Fail[string](verdict.Remote, ctx.Err().Error())
}

// TestDeadRecordIsBounded: whoever keeps silent about the record delays a verdict for as
// long as Patience says, and gets none that is laxer.
func TestDeadRecordIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := plainHosts(1)
		z.slow = map[string]time.Duration{"_smtp-strict." + domain: time.Hour}
		f, took := strictRig(z, verdict.Enforce).facts(t)
		if r := verdict.Decide(f); took != DefaultPatience || r.Verdict.Name() != "defer" {
			t.Errorf("%s after %v", r.Verdict.Name(), took)
		}
	})
}
