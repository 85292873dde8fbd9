package lab

import (
	"slices"
	"testing"
	"time"
)

// looks is the longest that policyd lets pass before it looks at a port again that
// mail was just deferred at.
const looks = time.Minute + patience

// implicitly has TLS used on port 26 where policyd has found it good; then the
// port is reset by somebody on the way.
func (l *lab) implicitly(t *testing.T) {
	rows := during("implicit", nil)
	resets := slices.IndexFunc(rows, func(s situation) bool { return s.name == "port26-reset" })
	for _, s := range rows {
		want := "NOTFOUND"
		if slices.Contains([]string{"port26", "port26-dane", "port26-reset"}, s.name) {
			want = "OK tls26:" + s.to[0] + ":26"
		}
		l.awaitTransport(t, s.to[0], want)
	}
	l.internet.host(rows[resets].by[0]).become("resets")
	l.actOut(t, rows)

	l.awaitTransport(t, rows[resets].to[0], "NOTFOUND")
	l.again(t, "implicit")

	l.policyd.kill(t)
	l.act(t, "implicit-down")
	l.policyd.start(t.Context(), t)
	l.again(t, "implicit-down")
}

// begunWithTLS reports whether the mail server has a setup in which it begins with TLS.
func (b box) begunWithTLS() bool {
	return slices.ContainsFunc(b.setups(), func(s setup) bool { return s.implicit })
}

// awaitTransport waits until policyd names a transport for a domain.
func (l *lab) awaitTransport(t *testing.T, domain, want string) {
	t.Helper()
	var reply string
	err := within(t.Context(), looks, func() bool {
		reply, _ = l.policyd.query(t.Context(), "transport", "postmaster@"+domain)
		return reply == want
	})
	if err != nil {
		t.Fatalf("policyd names the transport %q for %s, want %q\n%s", reply, domain, want, tail(l.path(policydLog), 20))
	}
}
