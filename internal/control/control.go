// Package control is how the command line changes what a running policyd holds, and lists
// it: over a unix socket that nobody but policyd's own user and root can open, since the
// socket that MTAs ask may be open to whoever is on the host.
//
//	server := &postfixmap.Server{Handler: &control.Handler{Backend: backend}}
//	...
//	client := &control.Client{Address: address}
//	pins, err := client.Pins(ctx)
//
// A request is one of the socketmap protocol, a word and what it is about; the data of the
// reply is JSON:
//
//	pins AFTER          the pins of hosts that come after this name; "." begins: a Page
//	pins-remove HOST    ends the pin of a host: NOTFOUND where there is none
//	history QUERY       what became of verdicts, for a HistoryQuery: a History
//	refresh DEST        works a destination out anew: a Refreshed
//
// A failure is TEMP, with a text for people. The words are for the policyd of the same
// version and promise nothing to others.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"tlsverdict/internal/explain"
	"tlsverdict/internal/history"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/signal"
	"tlsverdict/postfixmap"
)

const (
	// pageSize is how many pins one reply has: with the longest names, half of what fits.
	pageSize = 50
	// replyTime bounds one request at the client; the longest is a refresh.
	replyTime = 100 * time.Second
)

// ErrNotFound: there is no such thing.
var ErrNotFound = errors.New("control: not found")

// Pin is a host that is pinned, or was.
type Pin struct {
	Host string `json:"host"`
	// Banner is the directive that was seen last; empty where that cannot be read.
	Banner  string    `json:"banner,omitempty"`
	Learned time.Time `json:"learned,omitzero"`
	Seen    time.Time `json:"seen,omitzero"`
	Until   time.Time `json:"until"`
}

// Page is a part of the pins, in the order of their hosts.
type Page struct {
	Pins []Pin `json:"pins"`
	// More: there are others after the last one.
	More bool `json:"more,omitempty"`
	// Error says why they may not be all.
	Error string `json:"error,omitempty"`
}

// Refreshed is a destination that was worked out anew.
type Refreshed struct {
	// Before is what was known; nil for nothing.
	Before *explain.Report `json:"before,omitempty"`
	After  *explain.Report `json:"after"`
	// Problem says what could not be had anew, so that the old one holds.
	Problem string `json:"problem,omitempty"`
}

// Backend does what is asked.
type Backend interface {
	// Pins returns all pins, in the order of their hosts, ended or not. With an error they
	// may not be all.
	Pins() ([]signal.Pin, error)
	// RemovePin ends a pin, and reports whether there was one.
	RemovePin(host string) (found bool, err error)
	// Changes returns records of the history, latest first, and States the last verdicts on
	// a domain or host.
	Changes(f history.Filter) []history.Change
	States(name string) []history.State
	// Refresh drops what is known of a destination and works it out anew.
	Refresh(ctx context.Context, d nexthop.Destination) Refreshed
}

// Handler answers requests. It is a postfixmap.Handler.
type Handler struct {
	Backend Backend
}

// ServeMap answers one request.
func (h *Handler) ServeMap(ctx context.Context, req postfixmap.Request, reply []byte) []byte {
	key := string(req.Key)
	switch word := string(req.Map); word {
	case "pins":
		return data(reply, h.page(key))
	case "pins-remove":
		found, err := h.Backend.RemovePin(key)
		switch {
		case err != nil:
			return postfixmap.AppendTemp(reply, err.Error())
		case !found:
			return postfixmap.AppendNotFound(reply)
		}
		return data(reply, struct{}{})
	case "history":
		return h.history(reply, key)
	case "refresh":
		d, err := nexthop.Parse(key)
		if err != nil {
			return postfixmap.AppendTemp(reply, err.Error())
		}
		r := h.Backend.Refresh(ctx, d)
		for _, report := range []*explain.Report{r.Before, r.After} {
			if report == nil {
				continue
			}
			if err := report.Fit(postfixmap.MaxReply/2 - 1000); err != nil {
				return postfixmap.AppendTemp(reply, err.Error())
			}
		}
		return data(reply, r)
	default:
		return postfixmap.AppendTemp(reply, fmt.Sprintf("unknown request %q", word))
	}
}

// page returns the pins after a host.
func (h *Handler) page(after string) Page {
	all, err := h.Backend.Pins()
	p := Page{Pins: []Pin{}}
	if err != nil {
		p.Error = err.Error()
	}
	i, found := slices.BinarySearchFunc(all, after, func(pin signal.Pin, host string) int {
		switch {
		case host == ".", pin.Host > host:
			return 1
		case pin.Host < host:
			return -1
		}
		return 0
	})
	if found {
		i++
	}
	for _, pin := range all[i:min(len(all), i+pageSize)] {
		p.Pins = append(p.Pins, Pin{pin.Host, pin.String(), pin.Learned, pin.Seen, pin.Until})
	}
	p.More = len(all) > i+pageSize
	return p
}

// data appends a reply that is found.
func data(reply []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		return postfixmap.AppendTemp(reply, err.Error())
	}
	return append(append(reply, "OK "...), text...)
}

// Client asks a running policyd.
type Client struct {
	Address postfixmap.Address
}

// Pins returns all pins, in the order of their hosts, ended or not. With an error beside
// them they may not be all.
func (c *Client) Pins(ctx context.Context) ([]Pin, error) {
	var all []Pin
	for after := "."; ; {
		var p Page
		if err := c.ask(ctx, "pins", after, &p); err != nil {
			return all, err
		}
		all = append(all, p.Pins...)
		if p.Error != "" {
			return all, errors.New(p.Error)
		}
		if !p.More || len(p.Pins) == 0 {
			return all, nil
		}
		after = p.Pins[len(p.Pins)-1].Host
	}
}

// RemovePin ends the pin of a host. The error is ErrNotFound where there is none.
func (c *Client) RemovePin(ctx context.Context, host string) error {
	return c.ask(ctx, "pins-remove", host, &struct{}{})
}

// Refresh has a destination worked out anew.
func (c *Client) Refresh(ctx context.Context, dest string) (Refreshed, error) {
	var r Refreshed
	err := c.ask(ctx, "refresh", dest, &r)
	return r, err
}

// TempError is what policyd says where it could not do what it was asked.
type TempError struct{ Text string }

// Error returns the text.
func (e *TempError) Error() string { return e.Text }

func (c *Client) ask(ctx context.Context, word, key string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, replyTime)
	defer cancel()
	client := &postfixmap.Client{Address: c.Address}
	defer client.Close()
	reply, err := client.Lookup(ctx, word, key)
	if err != nil {
		return err
	}
	switch reply.Status {
	case postfixmap.StatusOK:
		return json.Unmarshal(reply.Data, into)
	case postfixmap.StatusNotFound:
		return ErrNotFound
	case postfixmap.StatusTemp, postfixmap.StatusTimeout, postfixmap.StatusPerm:
		return &TempError{string(reply.Data)}
	}
	panic(fmt.Sprintf("control: reply status %v", reply.Status))
}
