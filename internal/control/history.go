package control

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"tlsverdict/internal/history"
	"tlsverdict/internal/nexthop"
	"tlsverdict/postfixmap"
)

// changesOnPage is how many records one reply has: the longest ones fit.
const changesOnPage = 40

// HistoryQuery says which records of the history are wanted.
type HistoryQuery struct {
	// Dest names a domain or host, on whatever port; empty for all.
	Dest string `json:"destination,omitempty"`
	// Since leaves out what was before, and Downgrades all else.
	Since      time.Time `json:"since,omitzero"`
	Downgrades bool      `json:"downgrades,omitempty"`
	// Max is how many are wanted, latest first; 0 for all.
	Max int `json:"max,omitempty"`
	// Before is where the page before ended.
	Before uint64 `json:"before,omitempty"`
}

// History is what became of verdicts.
type History struct {
	// Known are the last verdicts on the domain or host that was asked for.
	Known   []history.State  `json:"known,omitempty"`
	Changes []history.Change `json:"changes"`
	// More: there are earlier ones.
	More bool `json:"more,omitempty"`
}

// history answers a query, a page at a time.
func (h *Handler) history(reply []byte, key string) []byte {
	var q HistoryQuery
	if err := json.Unmarshal([]byte(key), &q); err != nil {
		return postfixmap.AppendTemp(reply, "history: "+err.Error())
	}
	f := history.Filter{Since: q.Since, Downgrades: q.Downgrades, Before: q.Before, Max: changesOnPage + 1}
	var page History
	if q.Dest != "" {
		d, err := nexthop.Parse(q.Dest)
		if err != nil {
			return postfixmap.AppendTemp(reply, err.Error())
		}
		f.Name = d.Name
		if q.Before == 0 {
			page.Known = h.Backend.States(d.Name)
			page.Known = page.Known[:min(len(page.Known), changesOnPage)]
		}
	}
	page.Changes = h.Backend.Changes(f)
	if page.Changes == nil {
		page.Changes = []history.Change{}
	}
	if len(page.Changes) > changesOnPage {
		page.Changes, page.More = page.Changes[:changesOnPage], true
	}
	return data(reply, page)
}

// History returns what became of verdicts, latest first.
func (c *Client) History(ctx context.Context, q HistoryQuery) (History, error) {
	all := History{Changes: []history.Change{}}
	for {
		key, err := json.Marshal(q)
		if err != nil {
			return all, fmt.Errorf("control: %w", err)
		}
		var page History
		if err := c.ask(ctx, "history", string(key), &page); err != nil {
			return all, err
		}
		all.Known = append(all.Known, page.Known...)
		all.Changes = append(all.Changes, page.Changes...)
		all.More = page.More
		if q.Max > 0 && len(all.Changes) >= q.Max {
			all.More = all.More || len(all.Changes) > q.Max
			all.Changes = all.Changes[:q.Max]
			return all, nil
		}
		if !page.More || len(page.Changes) == 0 {
			return all, nil
		}
		q.Before = page.Changes[len(page.Changes)-1].Seq
	}
}
