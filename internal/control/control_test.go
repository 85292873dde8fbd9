package control

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/explain"
	"tlsverdict/internal/history"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/signal"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// backend is a daemon with pins and nothing else.
type backend struct {
	pins []signal.Pin
	err  error
	*history.Book
}

func (b *backend) Pins() ([]signal.Pin, error) { return b.pins, b.err }

func (b *backend) RemovePin(host string) (bool, error) {
	n := len(b.pins)
	b.pins = slices.DeleteFunc(b.pins, func(p signal.Pin) bool { return p.Host == host })
	return len(b.pins) < n, b.err
}

func (b *backend) Refresh(_ context.Context, d nexthop.Destination) Refreshed {
	return Refreshed{After: &explain.Report{Destination: d.String(), Verdict: "none"}, Problem: "x"}
}

// dial serves a backend on a socket and returns a client.
func dial(t *testing.T, b *backend) *Client {
	t.Helper()
	address, err := postfixmap.ParseAddress("unix:" + filepath.Join(t.TempDir(), "c"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := address.Listen(t.Context(), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	server := &postfixmap.Server{Handler: &Handler{Backend: b}}
	go func() { _ = server.Serve(context.Background(), l) }()
	t.Cleanup(func() { _ = server.Close() })
	return &Client{Address: address}
}

// TestPins: a list that takes many replies arrives whole and in order.
func TestPins(t *testing.T) {
	b := &backend{}
	c := dial(t, b)
	for _, n := range []int{0, 1, pageSize, pageSize + 1, 7 * pageSize} {
		b.pins = nil
		for i := range n {
			b.pins = append(b.pins, signal.Pin{Host: fmt.Sprintf("mx%05d.example", i), Until: time.Unix(int64(i), 0).UTC()})
		}
		got, err := c.Pins(t.Context())
		if err != nil || len(got) != n {
			t.Fatalf("%d of %d: %v", len(got), n, err)
		}
		for i, p := range got {
			if p.Host != b.pins[i].Host || !p.Until.Equal(b.pins[i].Until) {
				t.Fatalf("%d: %+v", i, p)
			}
		}
	}
	b.err = errors.New("the store cannot be read")
	if _, err := c.Pins(t.Context()); err == nil || err.Error() != b.err.Error() {
		t.Errorf("%v", err)
	}
}

func TestRemovePin(t *testing.T) {
	b := &backend{pins: []signal.Pin{{Host: "mx.example"}}}
	c := dial(t, b)
	if err := c.RemovePin(t.Context(), "mx.example"); err != nil {
		t.Error(err)
	}
	if err := c.RemovePin(t.Context(), "mx.example"); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	b.err = errors.New("no")
	var said *TempError
	if err := c.RemovePin(t.Context(), "mx.example"); !errors.As(err, &said) {
		t.Errorf("%v", err)
	}
}

func TestRefresh(t *testing.T) {
	c := dial(t, &backend{})
	r, err := c.Refresh(t.Context(), "Example.COM")
	if err != nil || r.Before != nil || r.After.Destination != "example.com" || r.Problem != "x" {
		t.Errorf("%+v, %v", r, err)
	}
	var said *TempError
	if _, err := c.Refresh(t.Context(), "[192.0.2.1]"); !errors.As(err, &said) {
		t.Errorf("%v", err)
	}
	if err := c.ask(t.Context(), "what", "x", &r); !errors.As(err, &said) {
		t.Errorf("%v", err)
	}
}

// TestHistory: a history that takes many replies arrives whole and in order, and what is
// not wanted stays out.
func TestHistory(t *testing.T) {
	b := &backend{Book: history.NewBook(1000)}
	c := dial(t, b)
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	long := strings.Repeat("a.", 120) + "example"
	for i := range 3 * changesOnPage {
		for _, v := range []verdict.Verdict{verdict.DANEOnly{}, verdict.NoPolicy{}} {
			b.Note(history.Observation{Time: at.Add(time.Duration(i) * time.Minute), Dest: fmt.Sprintf("%d.%s", i, long), Verdict: v, Source: verdict.FromNothing})
		}
	}
	got, err := c.History(t.Context(), HistoryQuery{})
	if err != nil || len(got.Changes) != 3*changesOnPage || got.More || got.Known != nil {
		t.Fatalf("%d, %v", len(got.Changes), err)
	}
	for i := range got.Changes {
		if want := uint64(3*changesOnPage - i); got.Changes[i].Seq != want {
			t.Fatalf("%d: number %d", i, got.Changes[i].Seq)
		}
	}
	for _, q := range []struct {
		q    HistoryQuery
		want int
		more bool
	}{
		{HistoryQuery{Max: 7}, 7, true},
		{HistoryQuery{Max: changesOnPage + 1}, changesOnPage + 1, true},
		{HistoryQuery{Dest: "[7." + strings.ToUpper(long) + "]:26"}, 1, false},
		{HistoryQuery{Dest: "nobody.example"}, 0, false},
		{HistoryQuery{Since: at.Add(time.Duration(3*changesOnPage-2) * time.Minute), Downgrades: true}, 2, false},
	} {
		got, err := c.History(t.Context(), q.q)
		if err != nil || len(got.Changes) != q.want || got.More != q.more || len(got.Known) > 1 {
			t.Errorf("%+v: %d, more %v, %v", q.q, len(got.Changes), got.More, err)
		}
	}
	var said *TempError
	if _, err := c.History(t.Context(), HistoryQuery{Dest: "a..b"}); !errors.As(err, &said) {
		t.Errorf("%v", err)
	}
	if err := c.ask(t.Context(), "history", "no JSON", &got); !errors.As(err, &said) {
		t.Errorf("%v", err)
	}
}
