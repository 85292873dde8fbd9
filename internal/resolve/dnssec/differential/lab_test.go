package differential

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/txtar"
)

// labInternet describes the zones of the lab, from here.
const labInternet = "../../../../lab/testdata/internet.txtar"

// labSpecimens are the lab's zones: signed where it signs them, with one key or two, and
// spoilt where it spoils them. What they say of certificates is not looked at.
func (g *generator) labSpecimens() []*specimen {
	archive, err := txtar.ParseFile(labInternet)
	if err != nil {
		g.in.t.Fatal(err)
	}
	top := g.in.zone("example.", byNSEC)
	top.layout("csk", dns.ED25519, 0)
	var all []*specimen
	byName := make(map[string]*specimen)
	for _, f := range archive.Files {
		words := strings.Fields(f.Name)
		if words[0] == "policy" {
			if sp := byName[words[1]]; sp != nil {
				sp.dom.add("mta-sts A 198.51.100.80\n_mta-sts TXT \"v=STSv1; id=1;\"")
			}
			continue
		}
		sp := g.labZone(words, string(f.Data))
		sp.zones = []*zone{top, sp.dom}
		byName[words[0]] = sp
		all = append(all, sp)
	}
	for _, sp := range all {
		sp.asks = append(sp.asks, sp.dom.ask("_mta-sts/TXT"), sp.dom.ask("mta-sts/A"))
	}
	return all
}

// labZone reads "NAME [signed] [tampered=OWNER/TYPE]..." and records.
func (g *generator) labZone(words []string, text string) *specimen {
	z := g.in.zone(words[0]+".", unsigned)
	sp := &specimen{top: z.apex, kind: "lab", dom: z, sampled: true}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		switch {
		case f[1] == "HOST":
			z.add(fmt.Sprintf("%[1]s A 198.51.100.100\n%[1]s AAAA 2001:db8:100::100", f[0]))
			sp.asks = append(sp.asks, z.ask(f[0]+"/A"), z.ask(f[0]+"/AAAA"), z.ask("_25._tcp."+f[0]+"/TLSA"))
		case f[1] == "TLSA" && f[len(f)-2] == "OF":
			z.add(strings.Join(f[:5], " ") + " " + strings.Repeat("5a", 32))
		default:
			z.add(line)
		}
	}
	sp.asks = append(sp.asks, z.ask("@/MX"), z.ask("@/TXT"), z.ask("alias/A"), z.ask("alias/CNAME"), z.ask("nowhere/A"), z.ask("@/DS"))
	for i := range sp.asks {
		sp.asks[i].name = strings.Replace(sp.asks[i].name, "@.", "", 1)
	}
	for _, w := range words[1:] {
		if at, ok := strings.CutPrefix(w, "tampered="); ok {
			g.tamper(sp, z.ask(at))
		} else if w == "signed" {
			z.style, z.worth = pick(g.rand, byNSEC, byNSEC3, byOptOut, byCompact), secure
			z.layout(pick(g.rand, "csk", "ksk and zsk"), dns.ECDSAP256SHA256, 0)
		}
	}
	z.parent.order = nil
	return sp
}

// tamper spoils the signature of an RRset.
func (g *generator) tamper(sp *specimen, q question) {
	f := &forgery{generator: g, sp: sp, q: q, m: g.in.honest(q).Copy()}
	f.each(&f.m.Answer, func(rr dns.RR) dns.RR {
		if sig, ok := rr.(*dns.RRSIG); ok {
			raw, _ := base64.StdEncoding.DecodeString(sig.Signature)
			sig.Signature = base64.StdEncoding.EncodeToString(f.flipped(raw))
		}
		return rr
	})
	g.in.forged[q] = f.m
	sp.damaged = true
}

// TestLabZones: the lab's zones come out as the lab says that they are.
func TestLabZones(t *testing.T) {
	in := newInternet(t)
	specimens := newGenerator(in, 1).labSpecimens()
	us := newOurs(t, in)
	spoilt, asked := 0, 0
	for _, sp := range specimens {
		for _, q := range sp.asks {
			asked++
			got := us.ask(q)
			if problem := judged(sp, q, got, in.truth(q)); problem != "" {
				t.Errorf("%s %s: %v %s", sp.top, sp.dom.style, q, problem)
			}
			if in.forged[q] != nil {
				spoilt++
				if got.worth != failed {
					t.Errorf("%v is spoilt, and we say %v", q, got)
				}
			}
		}
	}
	if len(specimens) < 30 || spoilt < 3 {
		t.Errorf("%d zones, %d questions, %d spoilt: the test means nothing", len(specimens), asked, spoilt)
	}
}
