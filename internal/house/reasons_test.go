package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/explain"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/socketmapd"
	"tlsverdict/internal/verdict"
)

// advice is what an operator does about a reason.
type advice struct {
	code verdict.Code
	todo string
}

// chapter is a part of docs/reasons.md.
type chapter struct {
	title   string
	advices []advice
}

const nothing = "Nothing."

func chapters() []chapter {
	return []chapter{
		{"Your own word", []advice{
			{verdict.Overridden, "Nothing is looked up. To end it, delete the `[[override]]` or give it an `until`, then reload."},
			{verdict.OverrideIgnore, "The same. The level of main.cf holds."},
		}},
		{"The MX lookup", []advice{
			{verdict.MXSecure, nothing},
			{verdict.MXInsecure, nothing + " Most domains are not signed."},
			{verdict.MXImplicit, nothing},
			{verdict.MXNotAsked, nothing + " The destination is `[host]` or a relayhost in brackets."},
			{verdict.MXNoDomain, nothing + " Postfix bounces the mail."},
			{verdict.MXNull, nothing + " Postfix bounces the mail."},
			{verdict.MXFailed, "Mail waits. Ask the same resolver: `dig MX DOMAIN`. If `dig +cd MX DOMAIN` answers where that fails, the domain's signatures are broken, and its owner must mend them. REFUSED, no answer, or every domain: it is your resolver."},
			{verdict.MXUnproven, "Mend this host's resolver: see [operations](operations.md#the-resolver). The deferral's text says what is wrong with it."},
			{verdict.DNSSECOff, "You wrote `dns.dnssec = \"off\"`. Install a validating resolver to have DANE."},
		}},
		{"One host", []advice{
			{verdict.HostNoAddress, nothing + " Postfix passes it over as well."},
			{verdict.HostInsecure, nothing},
			{verdict.HostFailed, "Nothing while other hosts decide. Else as for `mx-failed`, with `dig A HOST` and `dig AAAA HOST`."},
			{verdict.HostUnproven, "As for `mx-unproven`."},
			{verdict.AliasInsecure, nothing},
			{verdict.AliasFailed, "As for `mx-failed`, with `dig CNAME HOST`."},
			{verdict.TLSAUsable, nothing},
			{verdict.TLSAUnusable, "Nothing. The domain's owner has published records that SMTP cannot use; the text says why."},
			{verdict.TLSAAbsent, nothing},
			{verdict.TLSAInsecure, "Nothing. The domain's owner must sign the zone that holds the records."},
			{verdict.TLSAFailed, "As for `mx-failed`, with `dig TLSA _25._tcp.HOST`. Name servers that do not answer TLSA questions are the domain owner's to mend; until then an `[[override]]` lets mail out."},
		}},
		{"DANE", []advice{
			{verdict.DANEAll, nothing},
			{verdict.DANESome, nothing},
			{verdict.DANERaised, "Nothing. The other hosts get no mail from you while this lasts."},
			{verdict.DANERaisedTLS, "Nothing. The other hosts get no mail from you."},
			{verdict.DANENarrowed, "Nothing. Hosts whose lookups fail get no mail from you while this lasts."},
			{verdict.DANEEncrypt, nothing},
			{verdict.DANEInsecureMX, "Below Postfix 3.7.13, set `smtp_tls_dane_insecure_mx_policy = dane`: see [Postfix](postfix.md#the-lines)."},
			{verdict.DANENoHost, "Mail waits. See the reasons of each host above it."},
			{verdict.DANEOrTLS, "Mail waits: as for the reason of that host above it. Until then an `[[override]]` lets mail out."},
			{verdict.NoHostLeft, "Mail waits. See the reasons of each host above it."},
			{verdict.Fingerprints, nothing + " See [Postfix](postfix.md#dane-without-a-validating-resolver)."},
			{verdict.TLSAUnwritable, "See the reason after it."},
			{verdict.NoFingerprints, "Mail waits. Give Postfix a validating resolver on this host: see [Postfix](postfix.md#dane-without-a-validating-resolver). Until then an `[[override]]` lets mail out."},
			{verdict.DANEHidden, "Mail waits: as for the reason of that host above it. With a validating resolver for Postfix on this host it goes to the others: see [Postfix](postfix.md#dane-without-a-validating-resolver). Until then an `[[override]]` lets mail out."},
			{verdict.EncryptAll, "A host without TLS gets no mail from you. A validating resolver for Postfix would change that."},
			{verdict.InsecureEncrypt, nothing + " A validating resolver for Postfix would have the certificates checked."},
			{verdict.InsecureUnused, nothing + " A validating resolver for Postfix would have DANE used."},
		}},
		{"MTA-STS", []advice{
			{verdict.STSOff, "You wrote `mta_sts.mode = \"off\"`."},
			{verdict.STSSkipped, nothing},
			{verdict.STSAbsent, nothing},
			{verdict.STSFailed, "Nothing is enforced, since no unexpired policy is kept. The text says what failed. If every policy host fails, look at this host's way to port 443 and at its CA certificates."},
			{verdict.STSBogus, "Mail waits, unless you wrote `mta_sts.mode = \"observe\"`. The zone that holds `_mta-sts.DOMAIN` is signed, and what came does not hold: an attack, or a zone that its owner must mend. `dig +cd TXT _mta-sts.DOMAIN` shows what was sent; until then an `[[override]]` lets mail out."},
			{verdict.STSUnfinished, "Mail waits. policyd itself could not find out: too much is under way, or its store cannot be read. The text and the log say which."},
			{verdict.STSHeld, "Nothing is lost yet. If it lasts, the policy ends at the time that `policyd explain` shows."},
			{verdict.STSEnforce, nothing},
			{verdict.STSTesting, nothing},
			{verdict.STSNone, nothing},
			{verdict.STSObserved, "You wrote `mta_sts.mode = \"observe\"`."},
			{verdict.STSUnlisted, "The MX records and the policy disagree: an attack, or the owner's mistake. If it is every host, mail waits; tell the owner."},
			{verdict.STSUnwritable, "Mail waits. Tell the owner; until then an `[[override]]` lets mail out."},
		}},
		{"The prefix", []advice{
			{verdict.PrefixAll, nothing},
			{verdict.PrefixObserved, "You wrote `signals.prefix = \"observe\"`."},
			{verdict.PrefixUnsigned, "Nothing. The domain's owner must sign the zone."},
			{verdict.PrefixMixed, "Nothing. The domain's owner must name all MX hosts so."},
		}},
		{"The TXT record and the record type", slices.Concat(
			recordAdvice("txt", "dig TXT _smtp-strict.DOMAIN", []verdict.Code{verdict.TXTWebPKI, verdict.TXTEncrypt, verdict.TXTAbsent, verdict.TXTFailed, verdict.TXTUnsigned, verdict.TXTInvalid, verdict.TXTObserved}),
			recordAdvice("rr", "dig TYPE65400 DOMAIN", []verdict.Code{verdict.RRWebPKI, verdict.RREncrypt, verdict.RRAbsent, verdict.RRFailed, verdict.RRUnsigned, verdict.RRInvalid, verdict.RRObserved}),
		)},
		{"The banner", []advice{
			{verdict.BannerAll, nothing + " Hosts without a certificate for their name get no mail from you. `policyd pins` lists the pins; an `[[override]]` lets mail out."},
			{verdict.BannerObserved, "You wrote `signals.banner = \"observe\"`."},
			{verdict.BannerSome, nothing + " The other hosts show no banner, or it is not believed, or policyd has not looked at them yet."},
			{verdict.BannerFailed, "Mail waits. policyd cannot read its store: the log says why. An `[[override]]` lets mail out until that is mended."},
		}},
		{"Implicit TLS", []advice{
			{verdict.ImplicitPort, nothing + " You wrote `signals.implicit_tls = \"on\"`, and this is its port."},
		}},
		{"The end", []advice{
			{verdict.Nothing, nothing + " The level of main.cf holds."},
			{verdict.NoProof, "As for `mx-unproven`."},
			{verdict.Unfinished, "Mail waits for the next attempt, which finds the answer. If it is often so, the resolver or the policy hosts are slow: see `took` in the log."},
		}},
	}
}

// recordAdvice is what an operator does about one of the two records that have the same
// text: about its reasons, in the order that is written here.
func recordAdvice(key, command string, codes []verdict.Code) []advice {
	todo := []string{
		nothing + " Hosts without such a certificate get no mail from you.",
		nothing + " Hosts without TLS get no mail from you.",
		nothing,
		"Mail waits, unless the domain is not signed, the signal is only observed, or another one demands as much. Ask the same resolver: `" + command + "`. An answer to `" + strings.Replace(command, "dig", "dig +cd", 1) + "` alone means that the domain's signatures are broken. Until the owner has mended it an `[[override]]` lets mail out.",
		"Nothing. The domain's owner must sign the zone, and that of every alias on the way.",
		"Nothing. The text says what is wrong; the domain's owner must mend it.",
		"You wrote `signals." + key + " = \"observe\"`.",
	}
	all := make([]advice, len(codes))
	for i, c := range codes {
		all[i] = advice{c, todo[i]}
	}
	return all
}

// codes returns every reason code that the source declares.
func codes(t *testing.T) map[verdict.Code]bool {
	t.Helper()
	_, files := sources(t)
	found := make(map[verdict.Code]bool)
	for _, decl := range files["internal/verdict/reason.go"].Decls {
		constants, ok := decl.(*ast.GenDecl)
		if !ok || constants.Tok != token.CONST {
			continue
		}
		for _, spec := range constants.Specs {
			v := spec.(*ast.ValueSpec)
			if typ, ok := v.Type.(*ast.Ident); !ok || typ.Name != "Code" {
				t.Fatalf("%s is a constant that is no Code: teach this test about it", v.Names[0].Name)
			}
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found[verdict.Code(text)] = true
		}
	}
	return found
}

// shown is a reason as "policyd explain" shows it, without subject and detail.
func shown(code verdict.Code) explain.Reason {
	ruled := verdict.NoPolicy{}
	return explain.New(&engine.Explanation{
		Ruling: verdict.Ruling{Verdict: ruled, Reasons: []verdict.Reason{{Code: code}}}, InForce: engine.Ruled{Verdict: ruled},
	}).Reasons[0]
}

// TestReasons: docs/reasons.md explains every reason that there is, in the words
// and with the section that "policyd explain" prints.
func TestReasons(t *testing.T) {
	missing := codes(t)
	if len(missing) < 40 {
		t.Fatalf("%d codes found: the test sees too little to mean anything", len(missing))
	}
	var b strings.Builder
	b.WriteString(`# Reasons

Each step to a verdict has a code. ` + "`policyd explain`" + ` prints its sentence, ` + "`policyd explain --json`" + ` its code as well, and the
log the code of the last step, which is the decisive one. Codes keep their meaning.

A sentence may end with what was seen, such as "SERVFAIL from 127.0.0.1:53". How the steps make a verdict is in
[deciding](deciding.md).

This file is written by ` + "`go test ./internal/house -update`" + `.
`)
	for _, c := range chapters() {
		fmt.Fprintf(&b, "\n## %s\n\n| code | says | rests on | what to do |\n|---|---|---|---|\n", c.title)
		for _, a := range c.advices {
			if !missing[a.code] {
				t.Errorf("%s has advice twice, or is no code", a.code)
			}
			delete(missing, a.code)
			printed := shown(a.code)
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", a.code, printed.Text, printed.Cite, a.todo)
		}
	}
	b.WriteString("\n## Keys that are not looked up\n\n| code | says | rests on | what to do |\n|---|---|---|---|\n")
	for _, err := range []error{nexthop.ErrLiteral, nexthop.ErrParent} {
		r := socketmapd.NothingApplies("key", err).Reasons[0]
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.Code, r.Text, r.Cite, nothing)
	}
	for code := range missing {
		t.Errorf("reason %s has no advice: add what an operator should do to chapters()", code)
	}
	golden(t, "docs/reasons.md", b.String())
}

// TestKnownCodes: a record of the history that has one of them can be told.
func TestKnownCodes(t *testing.T) {
	for code := range codes(t) {
		if !code.Known() {
			t.Errorf("verdict.Code.Known does not know %q", code)
		}
	}
	if verdict.Code("of another release").Known() {
		t.Error("everything is known")
	}
}
