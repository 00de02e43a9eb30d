# Texts of the command line. The other language has the same ids. Verdict words (OK, ??, NG), codes and JSON stay as they are.
cli-demo-title = Natsuin { $version } demo — development keys, signatures have no effect
cli-step-start = start
cli-step-enrol = enrol
cli-step-sign = sign
cli-demo-signer = demo signer "{ $name }", { $algo }, level { $n } ({ $origin })
cli-signed-verified = signed and verified
cli-signed-unverified = signed, but not verified
cli-signed-undetermined = signed; not everything could be checked
cli-no-stamp = The time-stamp authority gave no time; the file goes without. The time shown is this machine's.
cli-next = Next:
cli-result = Result
cli-result-signed = signed
cli-time-own = time by the signing program's clock
cli-dev-bar = Development. Signatures made here have no effect.
cli-dev-ready = Ready in { $seconds } s. Ctrl-C stops it; data in { $path }
cli-dev-portal = portal
cli-dev-approve = approve
cli-dev-app = app
cli-dev-signers = signers
cli-dev-secrets = secrets in { $path }
cli-open-login = To log in, open: { $url }
cli-open-approve = To approve, open: { $url }
cli-no-browser = (no browser could be started; open the address yourself)
cli-hashed-here = { $n ->
    [one] One file hashed here. It doesn't leave this machine.
   *[other] { $n } files hashed here. They don't leave this machine.
}
cli-signed-of = { $n } of { $total } signed
archive-intact = Archived { $at }; { $n } files are as they were signed.
backup-made = Backup { $name }: { $n } files, { $rows } rows.
backup-intact = Backup { $name }, made { $at }; restored for a trial, every byte is as it was signed.
backup-older = The witness knows of later entries: the service went on after this backup was made.
backup-no-keys = Without the module's keys: make their backup with natsuin-cm backup, and put it in with --cm-keys.
backup-restored = Restored: { $zones }. What signers had approved before is void.
cli-counter-good = Counter-signed by { $who }: this signature was made there.
cli-counter-undetermined = Counter-signed by { $who }; whether it is good can't be said.
cli-counter-bad = A counter-signature by { $who } is not good: it doesn't show where the signature was made.
cli-no-signature = no signature in this file
cli-signatures = { $n ->
    [one] 1 signature
   *[other] { $n } signatures
}
cli-unknown-signer = unknown signer
cli-no-time = no time
cli-verified-count = { $passed } confirmed, { $undetermined } undetermined, { $failed } failed
cli-origin = origin (case { $case }): { $alg } key of { $owner }, level { $level } at generation and retention.
cli-origin-device = Made inside a device of the provider; it exists only there.
cli-origin-provider = Made by the provider without an evaluated device; it exists only at the provider.
cli-origin-ca = Made by a certification authority and sent to the provider only; copies may exist at that authority alone.
cli-origin-ca-signer = Made by a certification authority and passed on through the signer: copies may exist outside the provider.
cli-origin-signer = Made in the signer's environment: copies may exist outside the provider.
cli-origin-declared = What the provider declares of the device: { $named }.
cli-config-signed = OK  configuration { $serial } is signed by { $by } of { $of }; { $need } are needed for the next one.
cli-config-more = Configuration { $serial } is signed by { $by } of { $of }; { $need } are needed.
cli-config-others = Configuration { $serial } is signed by { $by } of { $of } here, and by { $others } who aren't among those who may sign the next one. The SAM knows whether that is enough.
cli-config-changed = NG  These files aren't those that were signed as configuration { $serial }.
cli-origin-undeclared = Nothing is declared of the device.
cli-origin-exportable = The signer may have it handed over.
cli-verified-table = Judged by the provider's table of algorithms, version { $version } (SHA-256 { $digest }).
cli-origin-one-time = It is for one act of the signer, and destroyed after it.
cli-destroyed = destroyed ({ $cause }): key { $key } of { $owner }, used for { $n } signatures. Unusable since { $since }.
cli-destroyed-after = Unrecoverable after { $time }.
cli-destroyed-passed = Unrecoverable after { $time }, which has passed.
cli-destroyed-pending = The device hasn't erased it yet: ask for a newer certificate.
cli-csc-checked = { $passed } passed, { $failed } failed, { $untested } not tested
cli-key-is = This is a key ({ $alg }).
cli-key-print = fingerprint of the public half
cli-key-public = public half, to paste into the portal (Bring a key of your own):
cli-key-next = Approve it there; then give this command the number that the approval page shows (--act).
cli-key-in = The key came in as { $key }. It still needs its certificate: open the portal.
cli-receiver = Public half of the receiver's key, to paste into the portal (Have this key handed over):
cli-receiver-code = code, to type into the approval page:
cli-received = { $alg } key, at the service { $key } until now
cli-device-key = Public half of the device key, to paste into the portal (Add a device key):
cli-device-code = code, to type into the approval page:
cli-device-sic = approval page:
cli-device-next = Approve it there with a way that you have, and choose its PIN there. The PIN isn't the passphrase of this file.
cli-device-new-passphrase = New passphrase for the file:
cli-device-again = Once more:
cli-device-passphrase = Passphrase of the device key's file:
cli-device-pin = PIN, to approve what stands above:
cli-device-pin-wrong = { $n ->
    [one] The PIN is wrong; one try is left.
   *[other] The PIN is wrong; { $n } tries are left.
}
cli-device-locked = The PIN is locked, or has to wait. Nothing was signed.
cli-device-asked = { $name } is asked to sign these documents (asked by: { $client }; certificate: { $key }; level { $n }):
cli-device-since = Ways to approve last changed: { $time }
client-state-new = without a secret yet
client-state-active = active
client-state-suspended = suspended
client-proof-none = proves nothing
client-proof-secret = proves itself with a secret
client-proof-keys = proves itself with keys
client-proof-certificate = proves itself with a certificate
client-overlap = What it had before counts until { $time }.
client-day = today: { $used } of { $most } signatures
client-month = this month: { $used } of { $most } signatures
client-secret = Its secret, shown only now:
code-mail-subject = { $service }: your one-time code
code-mail-text = Your one-time code for { $service } is { $code }. It was asked for by { $client } and works for { $n } minutes, together with the PIN of that key. If you are not signing anything now, tell nobody this code and write to the service.
