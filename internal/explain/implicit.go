package explain

import (
	"fmt"
	"strings"
	"time"
)

// Implicit is whether a domain's mail goes to the port of implicit TLS, and why not.
type Implicit struct {
	Port      int    `json:"port"`
	Transport string `json:"transport"`
	// Used: mail to the domain is sent there now. Of a destination on that port
	// itself it says nothing.
	Used    bool   `json:"used"`
	Because string `json:"because,omitempty"`
	Hosts   []Port `json:"hosts"`
}

// Port is what is known of a host on that port.
type Port struct {
	Host string `json:"host"`
	// State is good, bad, or unknown: not looked at yet, or too long ago.
	State string `json:"state"`
	// By is what vouches for a good one: dane or webpki.
	By string `json:"by,omitempty"`
	// Until is when a good one must have proved itself anew, Next when a host is
	// looked at next.
	Until time.Time `json:"until,omitzero"`
	Next  time.Time `json:"next,omitzero"`
	// Stage is how far a bad one came, Error what failed.
	Stage string `json:"stage,omitempty"`
	Error string `json:"error,omitempty"`
}

// implicit writes a line for the domain and one for each host.
func (t *text) implicit(i *Implicit, now time.Time) {
	if i == nil {
		return
	}
	t.print("\nimplicit TLS on port %d\n", i.Port)
	switch {
	case i.Used:
		t.print("  %s: mail is sent there\n", t.paint(green, "used"))
	case i.Because != "":
		t.print("  %s: %s\n", t.paint(yellow, "not used"), i.Because)
	}
	for _, h := range i.Hosts {
		state, c := h.State, red
		var rest []string
		switch h.State {
		case "good":
			c = green
			rest = append(rest, "by "+h.By, "for "+span(h.Until.Sub(now).Round(time.Second)))
		case "bad":
			rest = append(rest, fmt.Sprintf("%s: %s", h.Stage, h.Error))
		default:
			c = yellow
			rest = append(rest, "not looked at lately")
		}
		if left := h.Next.Sub(now).Round(time.Second); left > 0 {
			rest = append(rest, "looked at again in "+span(left)+" if it is wanted")
		}
		t.print("  %s  %s  %s\n", t.paint(bold, h.Host), t.pad(c, state, len("unknown")), strings.Join(rest, ", "))
	}
}
