package browser

import (
	"math"
	"time"

	"tlsverdict/internal/explain"
	"tlsverdict/internal/status"
)

// moment is when the snapshots were made.
func moment() time.Time { return time.Date(2026, 9, 14, 10, 42, 17, 0, time.UTC) }

func before(d time.Duration) time.Time { return moment().Add(-d) }

// young is the snapshot of a daemon that has just begun.
func young() status.Snapshot {
	return status.Snapshot{
		Time: moment(), Started: before(12 * time.Second), Host: "mx1.example.net",
		Hour: status.Window{From: before(time.Hour), To: moment(), Step: 60, Steps: make([]status.Step, 60)},
		Day:  status.Window{From: before(24 * time.Hour), To: moment(), Step: 900, Steps: make([]status.Step, 96)},
		DNSSEC: status.DNSSEC{
			Mode: "validate", Works: true, Checked: before(10 * time.Second),
		},
		Upstreams:   []status.Upstream{{Address: "127.0.0.1:53", Answers: true, Validates: true, Checked: before(10 * time.Second)}},
		Store:       status.Store{Durable: true},
		Policies:    status.Policies{Checked: before(time.Second)},
		Cache:       status.Cache{Room: 1_000_000},
		Connections: status.Connection{Room: 4096},
	}
}

// window makes up traffic: more by day than by night, and an outage.
func window(length time.Duration, steps int) status.Window {
	w := status.Window{From: before(length), To: moment(), Step: int(length/time.Second) / steps, Steps: make([]status.Step, steps)}
	for i := range steps {
		at := w.From.Add(length / time.Duration(steps) * time.Duration(i))
		if moment().Sub(at) > 21*time.Hour {
			continue
		}
		hour := float64(at.Hour()) + float64(at.Minute())/60
		volume := (120 + 90*math.Sin((hour-8)/24*2*math.Pi) + 12*math.Sin(float64(i)*1.7)) * float64(w.Step) / 60
		s := &w.Steps[i]
		s.Known = true
		s.Counts = status.Counts{
			status.DANEOnly: uint64(volume * 0.17), status.Fingerprint: uint64(volume * 0.01), status.DANE: uint64(volume * 0.02),
			status.Secure: uint64(volume * 0.31), status.Encrypt: uint64(volume * 0.03), status.Override: uint64(volume * 0.01),
			status.None: uint64(volume * 0.42), status.Defer: uint64(volume * 0.01),
		}
		if i > steps*3/4 && i < steps*4/5 {
			s.Counts[status.Defer] = uint64(volume * 0.12)
		}
		for k, n := range s.Counts {
			w.Total[k] += n
		}
	}
	return w
}

// sample is a snapshot with something of everything, as of a mail server on a bad day.
func sample() status.Snapshot {
	s := young()
	s.Started, s.Version = before(9*24*time.Hour), "1.0.0"
	s.Hour, s.Day = window(time.Hour, 60), window(24*time.Hour, 96)
	s.Upstreams = append(s.Upstreams, status.Upstream{
		Address: "192.0.2.53:53", Answers: true, Checked: before(40 * time.Second),
		Problem: "192.0.2.53:53 passes no RRSIG records on; use a resolver that does, or remove it from [dns] servers",
	})
	s.Deferrals = []status.Deferral{
		{Destination: "broken-dnssec.example", Reason: "mx-failed", Text: "broken-dnssec.example: MX lookup failed: bogus: the signature of 4711/ECDSAP256SHA256 has expired", Fault: "remote", First: before(3 * time.Hour), Last: before(40 * time.Second), Times: 181},
		{Destination: hostile + ".example", Reason: "mx-failed", Text: hostile, Fault: "remote", First: before(time.Hour), Last: before(5 * time.Minute), Times: 23},
		{Destination: "partner.example", Reason: "no-proof", Text: "partner.example: DNSSEC validation does not work here: 192.0.2.53:53 passes no RRSIG records on", Fault: "operator", First: before(20 * time.Minute), Last: before(9 * time.Minute), Times: 7},
		{Destination: "a-long-name-that-goes-on-and-on.department.of-the-institute-for-things.university-somewhere.example", Reason: "tlsa-failed", Text: "_25._tcp.mx.university-somewhere.example: TLSA lookup failed: SERVFAIL from 127.0.0.1:53", Fault: "remote", First: before(5 * time.Hour), Last: before(2 * time.Hour), Times: 64, Over: before(90 * time.Minute)},
	}
	s.DeferralsLeftOut = 311
	s.Policies = status.Policies{Checked: before(20 * time.Second), Kept: 8_711, Expired: 59, Failing: 3, List: []status.Policy{
		{Domain: "gone.example", Mode: "enforce", Fetched: before(7 * 24 * time.Hour), Expires: before(-3 * time.Hour), Failures: 97, Failure: "mta-sts.gone.example: connection refused", Failed: before(6 * time.Minute)},
		{Domain: "bank.example", Mode: "enforce", Fetched: before(6 * 24 * time.Hour), Expires: before(-26 * time.Hour), Failures: 41, Failure: "mta-sts.bank.example: the certificate has expired", Failed: before(11 * time.Minute)},
		{Domain: "quiet.example", Mode: "testing", Fetched: before(2 * 24 * time.Hour), Expires: before(-5 * 24 * time.Hour), Failures: 1, Failure: "mta-sts.quiet.example: no answer in time", Failed: before(time.Minute)},
	}}
	s.Changes = status.Changes{Downgrades: 1, List: []status.Change{
		{Time: before(4 * time.Minute), Destination: "shop.example", Before: "none", After: "secure by mta-sts", Reason: "an MTA-STS policy in mode enforce"},
		{Time: before(52 * time.Minute), Destination: "clinic.example", Before: "dane-only by dane", After: "none", Reason: "nothing asks for more than the MTA's own default", Downgrade: true},
		{Time: before(3 * time.Hour), Destination: "museum.example", Before: "secure by mta-sts", After: "dane-only by dane", Reason: "every host that can be used has usable TLSA records"},
		{Time: before(30 * time.Hour), Destination: "university.example", Before: "secure by mta-sts", After: "dane by dane", Reason: "some hosts have TLSA records: each is held to its own"},
	}}
	s.Cache = status.Cache{Entries: 48_213, Room: 1_000_000, Hits: 9_812_377, Misses: 121_004, Refreshes: 87_651, Busy: 19, Panics: 1}
	s.Connections = status.Connection{Open: 37, Room: 4096, Requests: 9_933_381, Shed: 5, Refused: 2, Malformed: 13, Unfinished: 3, Unread: 8}
	s.Store.Waiting, s.Store.Failures = 17, 6
	s.Pins = status.Pins{On: true, Hosts: 1_287}
	return s
}

// report is an explanation with long records.
func report() *explain.Report {
	secure := explain.Answer{Status: "found", DNSSEC: "secure"}
	none := explain.Answer{Status: "nodata", DNSSEC: "secure"}
	return &explain.Report{
		Destination: "bank.example", Verdict: "dane-only", Source: "dane", Expires: before(-4 * time.Minute),
		Reasons: []explain.Reason{
			{Code: "mx-secure", Cite: "RFC 7672 §2.2.1", Subject: "bank.example", Text: "the MX records are DNSSEC-secure"},
			{Code: "tlsa-usable", Cite: "RFC 7672 §2.2", Subject: "mx1.bank.example", Text: "usable TLSA records: 3 1 1 e8195f8d16402885..."},
			{Code: "tlsa-failed", Cite: "RFC 7672 §2.1.2", Subject: "mx2.bank.example", Text: "the TLSA lookup failed; the host cannot be used: " + hostile},
			{Code: "sts-skipped", Cite: "RFC 8461 §2", Subject: "bank.example", Text: "DANE decides; MTA-STS was not waited for"},
			{Code: "dane-all", Cite: "RFC 7672 §2.2", Subject: "bank.example", Text: "every host that can be used has usable TLSA records"},
		},
		Facts: explain.Facts{
			MX: &explain.MX{Answer: secure, Records: []explain.MXRecord{{Preference: 10, Host: "mx1.bank.example"}, {Preference: 20, Host: "mx2.bank.example"}}},
			Hosts: []explain.Host{
				{
					Name: "mx1.bank.example", A: explain.Records{Answer: secure, Records: []string{"198.51.100.100"}}, AAAA: explain.Records{Answer: none},
					TLSA: []explain.TLSA{{Base: "mx1.bank.example", Class: "usable", Records: explain.Records{Answer: secure, Records: []string{"3 1 1 e8195f8d164028851d5e3a2c1b8c9f2b6c1f7a09d2b1f4f2f3e0a9c5d7b6a4e1", "2 0 1 5c1502a6984c1a4e8195f8d164028851d5e3a2c1b8c9f2b6c1f7a09d2b1f4f2f"}}}},
				},
				{
					Name: "mx2.bank.example", A: explain.Records{Answer: secure, Records: []string{"198.51.100.101"}}, AAAA: explain.Records{Answer: none},
					TLSA: []explain.TLSA{{Base: "mx2.bank.example", Records: explain.Records{Answer: explain.Answer{Status: "failed", DNSSEC: "indeterminate", Error: "SERVFAIL from 127.0.0.1:53"}}}},
				},
			},
			STS: &explain.STS{},
			Chain: []string{
				". DNSKEY: a trust anchor matches, signed by 20326/RSASHA256", "example. DNSKEY: a DS of zone . matches, signed by 6409/ECDSAP256SHA256, 2483/ECDSAP256SHA256",
				"bank.example. MX: records, secure, signed by 53613/ECDSAP256SHA256",
			},
		},
		Replies: map[string]string{
			"postfix": "OK dane-only", "postfix-tlsrpt": "OK dane-only", "sts": "NOTFOUND ", "tls": "OK dane-only", "exim": "OK level=dane-only",
		},
	}
}
