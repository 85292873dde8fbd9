// Package impact says what would have become of mail that was sent, had today's verdicts
// been enforced: the question of everyone who is about to turn enforcement on.
//
//	c := impact.NewCollector()
//	totals, err := maillog.Read(ctx, log, c.Add)
//	for _, domain := range c.Domains() {
//		rows = append(rows, c.Judge(domain, totals, ruling(domain)))
//	}
//	impact.NewReport(rows, totals).WriteText(os.Stdout)
//
// Each delivery that went out is held against the verdict, by what the log says of it:
//
//	pass      it met the verdict
//	likely    it did as far as was looked: an authority that is known signed the certificate,
//	          and nobody compared the name
//	wait      it did not: mail would have stayed in the queue
//	unknown   the log does not say, as for DANE where nobody looked at TLSA records
//
// A verdict of "no policy" changes nothing, so that all of its deliveries pass.
//
// The package is pure: it reads no log and asks nobody. It keeps one small record a domain
// and hostsKept host names of each. It does not forecast: a verdict holds for today, and
// hosts change.
package impact
