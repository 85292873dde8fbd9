divert(-1)
dnl FEATURE(`tlsverdict') for sendmail.mc: asks policyd how strict TLS must be
dnl for each next hop, and lets mail wait where a session is not that strict.
dnl
dnl	FEATURE(`tlsverdict')dnl			asks inet:8461@127.0.0.1
dnl	FEATURE(`tlsverdict', `local:/run/x')dnl	asks another socket
dnl
dnl It stands instead of FEATURE(`sts'), above the MAILER lines and below the
dnl definition of confDANE, if there is one. Rules of your own under
dnl LOCAL_TLS_SERVER and LOCAL_TLS_RCPT run after these, on what these let
dnl through. docs/sendmail.md tells the rest.
dnl
dnl Why not FEATURE(`sts'):
dnl - it asks for the domain of the recipient, wherever mailertable or SMART_HOST
dnl   send the mail, and holds a relay against the policy of somebody else;
dnl - it knows MTA-STS only, and ignores "encrypt", "dane" and "dane-only";
dnl - it looks at the certificate once a session, for the first recipient: the
dnl   session of a lax domain then carries mail of a strict one;
dnl - until 8.18.2 no wildcard certificate is good enough for it.
dnl
dnl m4 expands what stands behind a hash, so notes for readers are dnl lines.
dnl Fields of rules are separated by tabs.

ifdef(`_LOCAL_TLS_RCPT_',
	`errprint(`*** ERROR: FEATURE(`tlsverdict') must be above LOCAL_TLS_RCPT
')')
ifdef(`_LOCAL_TLS_SERVER_',
	`errprint(`*** ERROR: FEATURE(`tlsverdict') must be above LOCAL_TLS_SERVER
')')
define(`_TLSV_SOCKET_', ifelse(_ARG_, `', ``inet:8461@127.0.0.1'', `_ARG_'))
define(`_TLSV_DANE_', `ifdef(`confDANE', `ifelse(lower(confDANE), `false', `no', `yes')', `no')')
define(`_TLSV_SAID_', _TLSV_DANE_)
define(`_NEED_MACRO_MAP_', `1')

dnl A refused session is a failure of the host to Sendmail, which leaves it alone
dnl then. That must not outlast the process: others have mail for the same host.
undefine(`confHOST_STATUS_DIRECTORY')

dnl The rules of the administrator keep their place behind ours.
define(`_LOCAL_TLS_SERVER_')
define(`LOCAL_TLS_SERVER', `divert(9)
STlsVerdict_own_server')
define(`_LOCAL_TLS_RCPT_')
define(`LOCAL_TLS_RCPT', `divert(9)
STlsVerdict_own_rcpt')

dnl The ruleset that asks for SNI has no place for rules of others. A macro of its
dnl name puts ours at its head when the rulesets are written, after all of
dnl sendmail.mc is read. So this is also where to see what came below us.
define(`_NEED_TLS_CLT_FEATURES')
define(`Stls_clt_features', ``Stls_clt_features'
dnl host $| address
R$`'* $`'| $`'*	$`': $`'1 $`'| $`'2 $`'| $`'>TlsVerdict_sni $`'&h
R$`'* $`'| $`'* $`'| no	$`': $`'1 $`'| $`'2
ifdef(`_ACCESS_TABLE_', `dnl
R$`'* $`'| $`'* $`'| yes	$`': <yes> $`'>tls_clt_feat_acc $`'1 $`'| $`'2
R<yes> $`'+;	$`'@ $`'1; sts=secure; servername=hostname
R<yes> ""	$`'@ sts=secure; servername=hostname
R<yes> $`'+	$`'@ $`'1; sts=secure; servername=hostname
', `dnl
R$`'* $`'| $`'* $`'| yes	$`'@ sts=secure; servername=hostname
')dnl
ifdef(`_MTA_STS_',
	`errprint(`*** ERROR: FEATURE(`tlsverdict') stands instead of FEATURE(`sts'): remove that
')')dnl
ifelse(_TLSV_DANE_, _TLSV_SAID_, `',
	`errprint(`*** ERROR: FEATURE(`tlsverdict') must be below the definition of confDANE
')')dnl
')

LOCAL_CONFIG
# tlsverdict: verdicts, and names in certificates
Ktls socket -d5 -T<TMPF> _TLSV_SOCKET_
ifelse(_TLSV_SAID_, `no', `Ksts socket -d5 -T<TMPF> _TLSV_SOCKET_
')dnl
Ktlsverdictmatch regex -s1 ^match=([-a-z0-9_]*)$
Ktlsverdictlog syslog -S -Linfo
O SetCertAltnames=true
dnl The states of {verify} in which a session is encrypted. The others are no, or
dnl no finished, handshake; a new one of a later version is not trusted.
C{TlsVerdictCrypt}OK FAIL NO NOT TRUSTED DANE_FAIL
C{TlsVerdictSeparator}. :
C{TlsVerdictDANE}dane dane-only
C{TlsVerdictDANEBad}DANE_FAIL DANE_TEMP DANE_NOTLS
dnl The mark in front of the user in what the parse ruleset returns, which cannot
dnl be written on the left side of a rule.
C{TlsVerdictUser}$:

LOCAL_RULESETS
######################################################################
###  tlsverdict: is the session as strict as the verdict of policyd?
######################################################################

dnl One open session at a time: {cert_altnames} holds the names of the latest
dnl handshake, not of the cached session that is used again.
O ConnectionCacheSize=1

###  Local_tls_server: is this host good enough to begin with?
dnl Who is refused here is not told the sender, and a refusal is temporary whatever
dnl else has failed in the message: that of tls_rcpt is not (see docs/sendmail.md).
dnl But it holds for all recipients of the session, and for all mail to the host
dnl that this process has still to deliver.
SLocal_tls_server
R$*			$: $1 $| $>TlsVerdict <$1> $&h
dnl {verify} $| <what to say> next hop of the last recipient
R$* $| $#$*		$: $1 $| <$2> $>TlsVerdict_nexthop $&u
dnl {verify} $| <what to say> <> why
R$* $| <$*> $&h		$: $1 $| <$2> <> $2
dnl No verdict, or another MX host is wanted: that is not the fault of this host. A
dnl process of the queue may have mail of others for it.
R$* $| <$*> <> error $- 4.7.0 $*	$: $1 $| <$2> <> <$&{ntries}>
R$* $| <$*> <> <0>	$#$2
R$* $| <$*> <> <$*>	$: $1 $| <$2> <> <$(tls .policyd $: $)>
R$* $| <$*> <> <>	$: $1
R$* $| <$*> <> $*	$#$2
R$* $| <$*> $*		$: $1
R$* $| $*		$: $1
R$*			$@ $>TlsVerdict_own_server $1

###  Local_tls_rcpt: may this recipient be told to this host?
dnl Asked of each, as the session can be that of another. Who is refused waits, or
dnl goes to the next MX host.
SLocal_tls_rcpt
dnl A session without TLS has no {verify} of its own, and would show one that the
dnl envelope has from elsewhere.
R$*			$: $(macro {verify} $@ NONE $) $1
R$*			$: $1 $| $>TlsVerdict_nexthop $1
R$* $| $*		$: $1 $| $>TlsVerdict <$&{verify}> $2
R$* $| $#$*		$#$2
R$* $| NONE		$: $1
R$* $| $+		$: $1 $(tlsverdictlog tlsverdict $2 for $1 at $&{server_name} verify $&{verify} $)
R$*			$@ $>TlsVerdict_own_rcpt $1

###  TlsVerdict_nexthop: where a recipient is sent
dnl Not $h: recipients whose MX hosts are the same share a delivery, and $h is the
dnl next hop of the first.
STlsVerdict_nexthop
dnl The domain is canonical already, and the DNS is not asked again for one that
dnl ends in a dot.
R$+@$+			$: $1@$2.
R$+@$+..		$: $1@$2.
R$+@$+].		$: $1@$2]
R$*			$: <?> $>parse $>canonify $1
R<?> $# $- $- $+ $={TlsVerdictUser} $*	$@ $3
R$*			$@ $&h

###  TlsVerdict: <{verify}> next hops, as [a]:[b] or a:b
STlsVerdict
dnl Of a list of hosts, the one that we talk to. Where that is none of them, what
dnl holds for any of the list.
R<$*> $*[$&{server_name}]$*	$@ $>TlsVerdict_judge <$1> [$&{server_name}]
R$*			$: ? $1
R? <$*> [ $+ ]:$+	$: <$1> <$3> $>TlsVerdict_judge <$1> [$2]
R? <$*> [ $+ ]		$@ $>TlsVerdict_judge <$1> [$2]
R? <$*> $+:$+		$: <$1> <$3> $>TlsVerdict_judge <$1> $2
R? <$*> $*		$@ $>TlsVerdict_judge <$1> $2
R<$*> <$*> $#$*		$#$3
R<$*> <$*> $*		$@ $>TlsVerdict <$1> $2

###  TlsVerdict_ask: next hop -> verdict; ends in <TMPF> if there is none
STlsVerdict_ask
R$@			$@ NONE
R$&{TlsVerdictUnknown}	$@ $&{TlsVerdictUnknown} <TMPF>
R$+			$: <$1> $(tls $1 $: NONE $)
dnl Asked again at once: policyd has closed a connection that was idle for long, or
dnl has meanwhile found out what takes long.
R<$+> $* <TMPF>		$: <$1> $(tls $1 $: NONE $)
ifelse(_TLSV_SAID_, `no', `dnl
dnl Without DANE: what MTA-STS asks for, else TLS.
R<$+> $={TlsVerdictDANE}	$: <$1> <$2> <$(sts $1 $: $)>
R<$+> <$-> <$* <TMPF>>	$: <$1> <$2> <$(sts $1 $: $)>
R<$+> <$-> <>		$@ encrypt instead of $2
R<$+> <$-> <$*>		$@ $3
')dnl
R<$+> $*		$@ $2

###  TlsVerdict_sni: does the host of this next hop need to be told its name?
STlsVerdict_sni
R$+.			$: $1
R$*			$: $>TlsVerdict_ask $1
Rsecure $*		$@ yes
R$*			$@ no

###  TlsVerdict_judge: <{verify}> next hop -> what holds, or an error
STlsVerdict_judge
R<$*> $+.		$: <$1> $2
R<$*> $*		$: <$1> <$2> $>TlsVerdict_ask $2
dnl Asked for once in a message: the others of its recipients need not wait.
R<$*> <$*> $* <TMPF>	$: $(macro {TlsVerdictUnknown} $@ $2 $) <TMPF> $2
R<TMPF> $*		$#error $@ 4.7.0 $: "450 no TLS verdict for " $1 " yet: policyd cannot tell, or does not answer"
R<$*> <$*> NONE	$@ NONE
R<$={TlsVerdictCrypt}> <$*> encrypt	$@ encrypt
R<$*> <$*> encrypt	$#error $@ 4.7.5 $: "450 TLS is mandatory for " $2 ", and there is none with " $&{server_name} ", verify=" $1
ifelse(_TLSV_SAID_, `no', `dnl
R<$={TlsVerdictCrypt}> <$*> encrypt instead of $-	$@ encrypt instead of $3
R<$*> <$*> encrypt instead of $-	$#error $@ 4.7.5 $: "450 TLS is mandatory for " $2 ", and there is none with " $&{server_name} ", verify=" $1
', `dnl
R<TRUSTED> <$*> $={TlsVerdictDANE}	$@ $2
R<$*> <$*> dane-only	$#error $@ 4.7.5 $: "450 DANE is mandatory for " $2 ", and " $&{server_name} " does not pass, verify=" $1
R<$={TlsVerdictDANEBad}> <$*> dane	$#error $@ 4.7.5 $: "450 " $&{server_name} " does not pass DANE for " $2 ", verify=" $1
dnl A host without TLSA records. TLS is asked for all the same: as long as the
dnl resolver of this host proves nothing, hosts with records look just so.
R<$={TlsVerdictCrypt}> <$*> dane	$@ encrypt as by dane
R<$*> <$*> dane	$#error $@ 4.7.5 $: "450 TLS is mandatory for " $2 ", and there is none with " $&{server_name} ", verify=" $1
')dnl
dnl "match=mx.a.example:.b.example" is split at dots and colons only. A map takes
dnl 256 octets, so just the first word goes to it. Two words with a blank between
dnl are an attribute that we do not know.
R<$*> <$*> secure $- $* servername=hostname	$: <$1> <$2> <> $(tlsverdictmatch $3 $: ? $)$4
R<$*> <$*> <> ?$*	$: <$1> <$2> a list of MX hosts?
R<$*> <$*> <> $* $~{TlsVerdictSeparator} $~{TlsVerdictSeparator} $*	$: <$1> <$2> a list of MX hosts?
R<$*> <$*> <> $+	$: <$1> <$2> host $>TlsVerdict_policy :$3:
R<$*> <$*> host no	$#error $@ 4.7.0 $: "450 " $&{server_name} " is not an MX host that the policy of " $2 " allows"
dnl DANE has authenticated the host; its certificate needs no name.
R<TRUSTED> <$*> host yes	$@ secure by DANE
R<OK> <$*> host yes	$: <$1> $>TlsVerdict_certificate $&{server_name}
R<$*> yes		$@ secure
R<$*> no		$#error $@ 4.7.5 $: "450 the certificate of " $&{server_name} " is for other names, and " $1 " asks for that one"
R<$*> <$*> host yes	$#error $@ 4.7.5 $: "450 a trusted certificate is mandatory for " $2 ", and " $&{server_name} " has none, verify=" $1
R<$*> <$*> $*		$#error $@ 4.7.0 $: "450 the TLS verdict for " $2 " is not understood: " $3
R$*			$#error $@ 4.7.0 $: "450 no TLS verdict"

###  TlsVerdict_policy: is the MX host in :a:.b: ? A dot in front
###  stands for one label
STlsVerdict_policy
R$*			$: $(macro {TlsVerdictParent} $@ ? $) $1
R$*			$: <$&{server_name}> $1
R<$-.$+> $*		$: <$1.$2> $(macro {TlsVerdictParent} $@ .$2 $) $3
R<$+> $* :$&{server_name}: $*	$@ yes
R<$+> $* :$&{TlsVerdictParent}: $*	$@ yes
R$*			$@ no

###  TlsVerdict_certificate: is the certificate for this host?
STlsVerdict_certificate
R$={cert_altnames}	$@ yes
R$-.$+			$: *.$2
R$={cert_altnames}	$@ yes
R$*			$@ no

###  Rules of the administrator
STlsVerdict_own_server
STlsVerdict_own_rcpt
divert(-1)
