package lint

// The codes, in the order in which a domain is looked at.
const (
	NoSuchDomain    Code = "no-such-domain"
	NullMX          Code = "null-mx"
	MXFailed        Code = "mx-failed"
	MXBogus         Code = "mx-bogus"
	MXAbsent        Code = "mx-absent"
	MXFound         Code = "mx-found"
	HostFailed      Code = "host-failed"
	HostBogus       Code = "host-bogus"
	HostNoAddress   Code = "host-no-address"
	HostAlias       Code = "host-alias"
	DNSSECUnproven  Code = "dnssec-unproven"
	ZoneUnsigned    Code = "zone-unsigned"
	ZoneSigned      Code = "zone-signed"
	HostUnsigned    Code = "host-unsigned"
	SignatureEnds   Code = "signature-ends"
	TLSAAbsent      Code = "tlsa-absent"
	TLSASomeHosts   Code = "tlsa-some-hosts"
	TLSAFailed      Code = "tlsa-failed"
	TLSAUnsigned    Code = "tlsa-unsigned"
	TLSAPKIX        Code = "tlsa-pkix-usage"
	TLSAUnusable    Code = "tlsa-unusable"
	TLSARenewal     Code = "tlsa-renewal"
	TLSAMisplaced   Code = "tlsa-misplaced"
	TLSAMismatch    Code = "tlsa-mismatch"
	TLSAAnchor      Code = "tlsa-anchor"
	TLSALeftover    Code = "tlsa-leftover"
	TLSAMatches     Code = "tlsa-matches"
	TLSAUsable      Code = "tlsa-usable"
	STSAbsent       Code = "sts-absent"
	STSLookup       Code = "sts-lookup-failed"
	STSRecord       Code = "sts-record"
	STSFetch        Code = "sts-policy-fetch"
	STSCertificate  Code = "sts-policy-certificate"
	STSInvalid      Code = "sts-policy-invalid"
	STSUnlisted     Code = "sts-mx-unlisted"
	STSUnused       Code = "sts-pattern-unused"
	STSMaxAge       Code = "sts-max-age"
	STSTesting      Code = "sts-testing"
	STSNone         Code = "sts-none"
	STSEnforced     Code = "sts-enforced"
	STSExpires      Code = "sts-certificate-ends"
	ReportsAbsent   Code = "tlsrpt-absent"
	ReportsRecord   Code = "tlsrpt-record"
	ReportsFailed   Code = "tlsrpt-lookup-failed"
	ReportsOK       Code = "tlsrpt-ok"
	PrefixUnsigned  Code = "prefix-unsigned"
	PrefixSomeHosts Code = "prefix-some-hosts"
	PrefixOK        Code = "prefix-ok"
	SMTPSNoPort     Code = "smtps-no-port"
	SMTPSPort       Code = "smtps-port"
	StrictUnsigned  Code = "strict-unsigned"
	StrictRecord    Code = "strict-record"
	StrictAuth      Code = "strict-auth"
	StrictFailed    Code = "strict-lookup-failed"
	StrictOK        Code = "strict-ok"
	NotProbed       Code = "not-probed"
	Unreachable     Code = "host-unreachable"
	NoSTARTTLS      Code = "starttls-absent"
	NoHandshake     Code = "tls-handshake"
	CertUntrusted   Code = "certificate-untrusted"
	CertName        Code = "certificate-name"
	CertExpired     Code = "certificate-expired"
	CertEnds        Code = "certificate-ends"
	CertOK          Code = "certificate-ok"
)

// Kinds says what each code means. It is a function since it must not change.
func Kinds() map[Code]Kind {
	all := make(map[Code]Kind)
	for _, part := range []map[Code]Kind{kindsOfDNS(), kindsOfTLSA(), kindsOfSTS(), kindsOfSignals(), kindsOfHosts()} {
		for code, k := range part {
			all[code] = k
		}
	}
	return all
}

func kindsOfDNS() map[Code]Kind {
	return map[Code]Kind{
		NoSuchDomain: {Error, "the domain does not exist", "", "check the spelling, and the delegation at the registry", "RFC 5321 §5.1"},
		NullMX:       {OK, "the domain takes no mail, and says so", "", "", "RFC 7505 §3"},
		MXFailed:     {Error, "the MX lookup fails", "senders wait and try again", "mend the name servers", "RFC 5321 §5.1"},
		MXBogus:      {Error, "the MX records do not pass DNSSEC validation", "senders that validate hold mail to you back", "mend the link of the chain that is named: the signatures in the zone, or the DS at the parent", "RFC 4035 §5.5"},
		MXAbsent:     {Notice, "there is no MX record: the domain's own address takes the mail", "", "publish MX records, so that the hosts have names of their own", "RFC 5321 §5.1"},
		MXFound:      {OK, "MX records", "", "", ""},

		HostFailed:    {Error, "the addresses of an MX host cannot be looked up", "senders cannot use the host", "mend its name servers", "RFC 5321 §5.1"},
		HostBogus:     {Error, "the addresses of an MX host do not pass DNSSEC validation", "senders that validate cannot use the host", "mend the link of the chain that is named", "RFC 7672 §2.1.1"},
		HostNoAddress: {Error, "an MX host has no address", "senders lose time on it, or return mail if there is no other", "give the host an A or AAAA record, or take its MX record away", "RFC 5321 §5.1"},
		HostAlias:     {Warning, "an MX host is an alias", "MX records must not point to a CNAME; some senders refuse it, and TLSA records belong at the end of the chain", "name the host itself in the MX record", "RFC 2181 §10.3"},

		DNSSECUnproven: {Unknown, "DNSSEC could not be checked here", "", "run this where DNSSEC answers get through; policyd doctor says more", ""},
		ZoneUnsigned:   {Notice, "the MX records are not signed", "who is on the way can rename the mail hosts: DANE, the prefix and the strict-TLS records prove nothing", "sign the zone and have the parent publish its DS records; until then MTA-STS is what protects", "RFC 7672 §2.2.1"},
		ZoneSigned:     {OK, "the MX records are signed, and the signatures hold", "", "", "RFC 4035 §5"},
		HostUnsigned:   {Warning, "the zone of an MX host is not signed", "the host can have no DANE although the domain could", "have whoever runs the host sign its zone", "RFC 7672 §2.2.2"},
		SignatureEnds:  {Warning, "a signature ends soon", "past its time senders that validate hold mail to you back", "see that the signer runs; signatures are usually renewed days before", "RFC 4035 §5.3.1"},
	}
}

func kindsOfTLSA() map[Code]Kind {
	return map[Code]Kind{
		TLSAAbsent:    {Notice, "no MX host has TLSA records", "the zones are signed, so that DANE needs no more than the records", "publish _25._tcp.HOST. TLSA 3 1 1 with the digest of the key in use", "RFC 7672 §2.2"},
		TLSASomeHosts: {Warning, "only some MX hosts have TLSA records", "who is on the way makes the others the only ones that answer", "publish TLSA records for every MX host", "RFC 7672 §2.2.1"},
		TLSAFailed:    {Error, "the TLSA lookup fails", "senders that use DANE must not use the host: mail waits, or goes to another", "mend the name servers, or the signatures there; a denial must be signed, too", "RFC 7672 §2.1.2"},
		TLSAUnsigned:  {Error, "TLSA records in an unsigned zone", "nobody believes them", "sign the zone, or take the records away", "RFC 7672 §2.2"},
		TLSAPKIX:      {Error, "certificate usage 0 or 1", "mail servers have no list of authorities in common: the records count as unusable, and TLS is demanded without authentication", "publish usage 3 (or 2): 3 1 1 with the digest of the key", "RFC 7672 §3.1.3"},
		TLSAUnusable:  {Error, "a TLSA record that no sender can use", "", "publish 3 1 1 and the SHA-256 digest of the key", "RFC 6698 §2.1"},
		TLSARenewal:   {Warning, "the record is for the certificate: a renewal breaks it", "senders hold mail to you back from the renewal until the record has changed, and caches have seen it", "publish 3 1 1 for the key and keep the key at renewals, or publish the next record before", "RFC 7671 §8"},
		TLSAMisplaced: {Warning, "TLSA records where no sender looks", "they protect nothing", "move them to _25._tcp. and the name of the MX host", "RFC 7672 §2.2.3"},
		TLSAMismatch:  {Error, "the host's certificate matches none of its TLSA records", "senders that use DANE hold mail to you back", "publish the record of the key in use, or give the host the certificate that the record is for", "RFC 7672 §2.2"},
		TLSAAnchor:    {Error, "the certificate does not hold below the trust anchor of the TLSA record", "senders that use DANE hold mail to you back", "have the host send the whole chain with a certificate for its name, or publish 3 1 1 for its key", "RFC 7672 §3.1.2"},
		TLSALeftover:  {Notice, "a TLSA record matches nothing that the host shows", "one that is for the next key is right; one for a key that is gone lets its holder pose as you", "take it away if it is not for the next key", "RFC 7671 §8"},
		TLSAMatches:   {OK, "the host's certificate matches its TLSA records", "", "", "RFC 7672 §3.1"},
		TLSAUsable:    {OK, "usable TLSA records", "", "", "RFC 7672 §3.1"},
	}
}

func kindsOfSTS() map[Code]Kind {
	return map[Code]Kind{
		STSAbsent:      {Notice, "no MTA-STS policy", "senders that cannot use DANE send in clear text if told so on the way", "publish a policy at https://mta-sts.DOMAIN/.well-known/mta-sts.txt and the TXT record _mta-sts", "RFC 8461 §3"},
		STSLookup:      {Error, "the lookup of the MTA-STS record fails", "senders find no new policy", "mend the name servers", "RFC 8461 §3.1"},
		STSRecord:      {Error, "the MTA-STS record is not valid", "senders act as if there were none", "publish exactly one TXT record \"v=STSv1; id=...\" at _mta-sts", "RFC 8461 §3.1"},
		STSFetch:       {Error, "the policy cannot be fetched", "senders that have none act as if there were none", "serve it with status 200 and media type text/plain, without redirects", "RFC 8461 §3.3"},
		STSCertificate: {Error, "the policy host's certificate does not hold", "senders take no policy from it", "give mta-sts.DOMAIN a valid certificate for that name", "RFC 8461 §3.3"},
		STSInvalid:     {Error, "the policy is not valid", "senders act as if there were none", "mend the line that is named", "RFC 8461 §3.2"},
		STSUnlisted:    {Error, "the policy lists no pattern that an MX host matches", "senders that have the policy do not use the host", "add an mx line for it, then change the id in the record", "RFC 8461 §4.1"},
		STSUnused:      {Notice, "a pattern that no MX host matches", "right before a move, else it lets a host be used that is none of yours", "take the mx line away if it is not for a host to come", "RFC 8461 §3.2"},
		STSMaxAge:      {Warning, "the policy is kept for a short time only", "an attacker who blocks the policy host has only to wait that long", "raise max_age to some weeks: 1209600 or more", "RFC 8461 §3.2"},
		STSTesting:     {Notice, "the policy is in mode testing", "senders report, and do not enforce", "when the reports are clean, change it to mode: enforce, and the id", "RFC 8461 §5"},
		STSNone:        {Notice, "the policy is in mode none", "it takes an earlier policy back", "take policy and record away when its max_age is over", "RFC 8461 §5"},
		STSEnforced:    {OK, "an MTA-STS policy in mode enforce", "", "", "RFC 8461 §5"},
		STSExpires:     {Warning, "the policy host's certificate ends soon", "then senders can fetch no policy", "renew it", "RFC 8461 §3.3"},

		ReportsAbsent: {Notice, "no record for TLS reports", "senders do not tell you what fails", "publish _smtp._tls TXT \"v=TLSRPTv1; rua=mailto:...\"", "RFC 8460 §3"},
		ReportsRecord: {Warning, "the record for TLS reports is not valid", "senders do not report", "publish exactly one TXT record \"v=TLSRPTv1; rua=mailto:...\" at _smtp._tls", "RFC 8460 §3"},
		ReportsFailed: {Unknown, "the record for TLS reports could not be looked up", "", "", "RFC 8460 §3"},
		ReportsOK:     {OK, "TLS reports are asked for", "", "", "RFC 8460 §3"},
	}
}

func kindsOfSignals() map[Code]Kind {
	return map[Code]Kind{
		PrefixUnsigned:  {Warning, "MX names with a strict-TLS prefix in an unsigned zone", "nobody believes the prefix: who could strip STARTTLS could rename the host", "sign the zone; or rename the hosts if the prefix is an accident", ""},
		PrefixSomeHosts: {Warning, "only some MX names have a strict-TLS prefix", "nobody believes it: an attacker would choose the other host", "give all MX hosts the prefix, or none", ""},
		PrefixOK:        {OK, "every MX name has a strict-TLS prefix, in a signed zone", "", "", ""},
		SMTPSNoPort:     {Warning, "a host named smtps- does not speak implicit TLS", "senders fall back to STARTTLS on port 25, which stays mandatory", "open the port, with a certificate for the host's name; or name the host starttls-", ""},
		SMTPSPort:       {OK, "a host named smtps- speaks implicit TLS", "", "", ""},

		StrictUnsigned: {Warning, "a strict-TLS record in an unsigned zone", "nobody believes it", "sign the zone, or take the record away", ""},
		StrictRecord:   {Error, "the strict-TLS record is not valid", "senders act as if there were none", "publish exactly one record \"v=SMTPSTRICT1; tls=required\"", ""},
		StrictAuth:     {Warning, "the strict-TLS record asks for less than it seems to", "", "", ""},
		StrictFailed:   {Error, "the strict-TLS record cannot be looked up", "senders that enforce it hold mail to you back", "mend the name servers, or the signatures there", ""},
		StrictOK:       {OK, "a strict-TLS record", "", "", ""},
	}
}

func kindsOfHosts() map[Code]Kind {
	return map[Code]Kind{
		NotProbed:     {Unknown, "the hosts' certificates were not looked at", "", "run it with --probe where port 25 is open outwards", ""},
		Unreachable:   {Unknown, "an MX host could not be reached from here", "", "many networks block port 25 outwards: try from a mail server", ""},
		NoSTARTTLS:    {Warning, "an MX host does not offer STARTTLS", "mail to it goes in clear text", "give it a certificate and turn TLS on", "RFC 3207 §4"},
		NoHandshake:   {Error, "the TLS handshake with an MX host fails", "senders that demand TLS cannot use the host", "see the host's own log", "RFC 3207 §4"},
		CertUntrusted: {Notice, "the certificate comes from no authority that is known here", "fine with DANE; without it nobody can check the host", "for MTA-STS, get one from a public authority", "RFC 8461 §4.2"},
		CertName:      {Notice, "the certificate is not for the name of the MX host", "fine with DANE usage 3; else nobody can check the host", "get one for the name in the MX record", "RFC 8461 §4.1"},
		CertExpired:   {Notice, "the certificate is past its time, or not yet in it", "fine with DANE usage 3; else nobody can check the host", "renew it", "RFC 8461 §4.2"},
		CertEnds:      {Warning, "the certificate ends soon", "", "renew it", "RFC 8461 §4.2"},
		CertOK:        {OK, "TLS with a certificate that holds for the name of the MX host", "", "", "RFC 8461 §4.2"},
	}
}
