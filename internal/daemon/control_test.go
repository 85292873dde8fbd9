package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"tlsverdict/internal/config"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/signal"
	"tlsverdict/internal/store"
	"tlsverdict/internal/verdict"
)

// TestControl: a pin that is removed is gone from the store and from what is ruled, and a
// destination is worked out anew also where the network is not there.
func TestControl(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	cfg, err := config.Parse("f", []byte("signals.banner = \"enforce\"\n[dns]\nservers = [\"127.0.0.1:1\"]"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open("", log)
	if err != nil {
		t.Fatal(err)
	}
	gone := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no network") }
	stack, err := NewStack(cfg, st, Network{DialDNS: gone, DialHTTPS: gone, DialMail: gone}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer stack.Close()
	d := &daemon{cfg: cfg, log: log, store: st}
	d.stack.Store(stack)
	err = st.UpdatePin("mx.example.com", func(p signal.Pin, _ bool) (signal.Pin, bool) {
		p.Until = time.Now().Add(time.Hour)
		return p, true
	})
	if err != nil {
		t.Fatal(err)
	}
	if pins, err := d.Pins(); err != nil || len(pins) != 1 {
		t.Errorf("%v, %v", pins, err)
	}
	for i, want := range []bool{true, false} {
		if found, err := d.RemovePin("MX.example.com."); found != want || err != nil {
			t.Errorf("%d: %v, %v", i, found, err)
		}
	}
	if _, err := d.RemovePin("a..b"); err == nil {
		t.Error("no name, and no error")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r := d.Refresh(ctx, nexthop.Destination{Name: "example.com", Port: nexthop.SMTPPort})
	if r.Before != nil || r.After == nil || r.After.Verdict != (verdict.Defer{}).Name() {
		t.Errorf("%+v", r)
	}
	if again := d.Refresh(ctx, nexthop.Destination{Name: "example.com", Port: nexthop.SMTPPort}); again.Before == nil {
		t.Error("nothing was known before the second time")
	}
}
