package resolve

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestRootSignatures: from when until when the root has signed, as a server says it, and
// why that is not known.
func TestRootSignatures(t *testing.T) {
	signed := func(q *dns.Msg) *dns.Msg {
		return answering(q, rr(t, ". 60 IN SOA ns. h. 1 1 1 1 1",
			". 60 IN RRSIG SOA 13 0 60 20261201000000 20261101000000 1 . AAAA")...)
	}
	for _, tc := range []struct {
		name    string
		server  answerer
		problem string
	}{
		{"signed", signed, ""},
		{"stripped", stripped(signed), "it passes no signature of the root on"},
		{"failing", func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeServerFailure) }, "failing"},
	} {
		r := resolver(t, Config{Mode: Validate, Servers: []netip.AddrPort{run(t, tc.server)}})
		defer r.Close()
		all := r.RootSignatures(t.Context())
		if len(all) != 1 || all[0].Problem != tc.problem {
			t.Errorf("%s: %+v", tc.name, all)
			continue
		}
		if from, until := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC); tc.problem == "" && (!all[0].From.Equal(from) || !all[0].Until.Equal(until)) {
			t.Errorf("%+v", all[0])
		}
	}
}
