package lab

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const attacksPage = "../docs/attacks.md"

// newAttacks returns docs/attacks.md with nothing in it yet.
func newAttacks() *page {
	p := &page{file: attacksPage, servers: attackedServers(), text: (*page).attacked}
	for _, a := range assaults() {
		p.rows = append(p.rows, a.name)
	}
	return p
}

const attacksHead = `# Attacks, and what they come to

What somebody on the way can do to mail, and what becomes of it where policyd decides and Postfix, Exim or Sendmail sends. Written by
` + "`make lab`" + `: it attacks real mail servers, set up with the files of [contrib](../contrib), on a small internet of their own, and fails where a
cell is not what happens. Each cell is what three witnesses say: policyd's verdict, the mail server's log, and the hosts that got the mail,
the attacker's among them.

| letter | is |
|---|---|
| D | **defended**: the mail waits in the queue and is tried again, or it gets to the genuine host as safely as the verdict demands |
| C | **compromised**: somebody else reads the mail. This is a limit of that signal, and no fault of the mail server's: whoever needs more needs another signal beside it |
| - | does not apply; the reason stands below |

A letter holds for %s alike.

## The table

`

const attacksWords = `
policyd resolves and validates for itself here, the mail server has a validating resolver on the same host, and both get their answers
through the attacker. "Policy known" is a domain that mail was sent to before the attack; "first contact" is one that was not.
The prefix, the TXT record and the RR type are in signed zones, the pinned hosts in unsigned ones. They are on: ` + "`txt = \"enforce\"`, `rr = \"enforce\"`, `banner = \"enforce\"`" + `, and where the mail server
can do it ` + "`implicit_tls = \"on\"`" + `.

## The limits, in words

- **A CA that errs.** Whoever has a certificate for the MX host's name from any CA that the mail server trusts is that host, to every signal
  but DANE. Only DANE does not ask a CA.
- **MTA-STS at first contact.** A domain without DNSSEC has nothing to show that it has a policy. Whoever suppresses its TXT record, or
  blocks its policy host, before the policy was ever fetched, has a domain without a policy. Once fetched it is kept on disk, and holds
  until its max_age is over, whatever is blocked; with the daily refresh an attack must last as long.
- **` + "`tls=required`" + ` alone** asks for TLS with anybody. It keeps out who only listens, or strips STARTTLS, and lets in who answers himself. ` + "`auth=webpki`" + `
  beside it asks for a certificate.
- **An unsigned zone says nothing.** A prefix, TXT record or TLSA record in it is seen and not believed: nobody can stop mail by injecting one, and
  nobody is protected by having one.
- **A pin is of a host.** Who can forge the MX of an unsigned domain leads mail to a host that is not pinned. Before a host was seen, its banner can be
  stripped like STARTTLS itself.
- **A signal is worth as much as what it hangs on.** Whoever has the key of a signed zone, or a certificate for the name of a policy host, speaks for that
  domain, and is believed.
- **Mail waits; it is not delivered.** An attacker who can do one of these things all the time keeps mail away for as long as it is
  queued. He could do that by dropping packets, too.
`

// attacked renders docs/attacks.md.
func (p *page) attacked() string {
	var b strings.Builder
	var titles []string
	for _, m := range p.servers {
		titles = append(titles, m.title())
	}
	last := len(titles) - 1
	fmt.Fprintf(&b, attacksHead, strings.Join(titles[:last], ", ")+" and "+titles[last])
	b.WriteString(attackCells())
	b.WriteString(attacksWords)
	b.WriteString("\n## Each attack\n")
	for _, row := range attackTable() {
		fmt.Fprintf(&b, "\n### %s\n\n%s.\n\n%s", row.name, upperFirst(row.title), p.assaultsOf(row))
		if reasons := row.reasons(); reasons != "" {
			fmt.Fprintf(&b, "\nDoes not apply: %s.\n", reasons)
		}
	}
	b.WriteString("\n## What they log\n\nWithout times, process and queue numbers, addresses and the like.\n")
	for _, a := range assaults() {
		fmt.Fprintf(&b, "\n### %s\n%s", a.name, p.logs(a.name))
	}
	return b.String()
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// attackCells renders the table: attacks down, signals across.
func attackCells() string {
	var b strings.Builder
	b.WriteString("| attack |")
	for _, s := range attackedSignals() {
		fmt.Fprintf(&b, " %s |", s.title)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(attackedSignals())) + "\n")
	for _, row := range attackTable() {
		fmt.Fprintf(&b, "| [%s](#%s) |", row.title, row.name)
		for _, s := range attackedSignals() {
			fmt.Fprintf(&b, " %s |", row.cell(s.name))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// cell is a letter, or letters and where each is.
func (r attackRow) cell(signal string) string {
	if !isLetters(r.cells[signal]) {
		return "-"
	}
	letters := strings.Fields(r.cells[signal])
	if len(letters) == 1 {
		return letters[0]
	}
	var words []string
	for _, a := range assaults() {
		if word := a.letter + " " + a.only; a.attack == r.name && a.signal == signal && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}

// reasons says of the signals without a letter why they have none.
func (r attackRow) reasons() string {
	var words []string
	for _, s := range attackedSignals() {
		if reason := r.cells[s.name]; !isLetters(reason) {
			words = append(words, s.title+" ("+reason+")")
		}
	}
	return strings.Join(words, "; ")
}

// assaultsOf renders what was done for a row, and what became of each mail.
func (p *page) assaultsOf(r attackRow) string {
	var b strings.Builder
	b.WriteString("| signal | in detail | verdict |")
	for _, m := range p.servers {
		fmt.Fprintf(&b, " %s |", m.title())
	}
	b.WriteString(" who got it | |\n|---|---|---|" + strings.Repeat("---|", len(p.servers)) + "---|---|\n")
	for _, s := range attackedSignals() {
		for _, a := range assaults() {
			if a.attack != r.name || a.signal != s.name {
				continue
			}
			fmt.Fprintf(&b, "| [%s](#%s) | %s | %s |", s.title, a.name, cmp.Or(a.title, "this alone"), a.verdict[0])
			for _, m := range p.servers {
				fmt.Fprintf(&b, " %s |", shown(a.ends.of(m)))
			}
			fmt.Fprintf(&b, " %s | %s |\n", a.receivers(p.servers), a.letter)
		}
	}
	return b.String()
}

// receivers says who got the mail.
func (a assault) receivers(servers []box) string {
	var words []string
	for _, m := range servers {
		if word := a.receiver(a.ends.of(m)); !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return strings.Join(words, "; ")
}

func (a assault) receiver(end string) string {
	protection, host, taken := taker(end)
	switch {
	case !taken:
		return "nobody"
	case a.letter == harmless:
		return "the genuine host"
	case protection == clear:
		return "whoever is on the way"
	case host != a.host:
		return "the impostor's host"
	}
	return "somebody in between"
}
