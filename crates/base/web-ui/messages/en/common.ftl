# Texts that every surface shares. The other language has the same ids.
product = Natsuin
product-latin = Natsuin
skip = Skip to the content
language-other = 日本語
dev-bar = Development. Signatures made here have no effect.
jst = JST
help = Help
required = required
optional = optional
show = Show
hide = Hide
copy = Copy
back = Back
level = Level { $n }
error-word = Error
error-summary = { $n ->
    [one] One thing needs correcting.
   *[other] { $n } things need correcting.
}
reference = Reference { $ref }
not-found = There is no such page.
not-found-do = Check the address, or start from the first page.
level-1-why = Level 1, because the key is kept in software.
level-2-needs = Level 2 needs: generation and keeping in an HSM, and two-factor approval apart from login.

error-act-expired = The time to approve ran out.
error-act-expired-do = Choose "Prepare again". Nothing was signed.
error-act-used = This approval was already used.
error-act-used-do = See the result in History. If it wasn't you, stop the key.
error-act-withdrawn = The requester withdrew it.
error-act-withdrawn-do = Nothing to do.
error-cancelled = Not approved.
error-cancelled-do = Press the button again to go on.
error-no-passkey-here = No signing passkey on this device.
error-no-passkey-here-do = Approve on the device that has it, or choose another way.
error-cross-device-failed = The other device couldn't be reached.
error-cross-device-failed-do = Turn on Bluetooth and network on both, move closer, retry.
error-in-app-browser = This app's built-in browser can't approve.
error-in-app-browser-do = Choose "Open in browser", or copy the link to Safari or Chrome.
error-pin-or-code-wrong = { $n ->
    [one] PIN or one-time code is wrong. One try left.
   *[other] PIN or one-time code is wrong. { $n } tries left.
}
error-pin-or-code-wrong-do = Enter both again.
error-factor-locked = Too many tries; this method is locked.
error-factor-locked-do = Use another method or ask to enrol again.
error-code-replayed = This one-time code was already used.
error-code-replayed-do = Wait about 30 s for the next.
error-clock-skew = Your device's clock is off.
error-clock-skew-do = Set date and time to automatic.
error-key-stopped = This key is stopped.
error-key-stopped-do = Resume it under Keys, or choose another.
error-cert-expired = The certificate expired on { $date }.
error-cert-expired-do = Renew it. Earlier signatures with a time-stamp can still be verified.
error-cert-revoked = The CA revoked this certificate.
error-cert-revoked-do = Apply for a new key.
error-level-too-low = This document needs a level { $n } key.
error-level-too-low-do = Choose another key or tell the requester. ({ $req })
error-act-not-genuine = What should be shown here failed its check. Don't sign.
error-act-not-genuine-do = Close this page and tell the operator { $ref }.
error-file-mismatch = That file isn't the document requested.
error-file-mismatch-do = Don't sign; ask the requester.
error-pdf-encrypted = The PDF has a password.
error-pdf-encrypted-do = Choose a copy without one.
error-pdf-no-changes = This PDF forbids changes and signatures.
error-pdf-no-changes-do = Ask its author for one that allows them.
error-pdf-broken = The PDF is damaged or cut short.
error-pdf-broken-do = Download it again.
error-glyph-missing = The typeface lacks "{ $ch }".
error-glyph-missing-do = Choose another, or your own picture.
error-not-your-turn = It isn't your turn yet.
error-not-your-turn-do = We'll mail you after { $name } signs.
error-link-expired = The link has expired.
error-link-expired-do = "Ask for a new link" tells the sender.
error-unknown-outcome = The connection dropped; we're finding out.
error-unknown-outcome-do = Don't approve again. The answer appears here.
error-service-not-signing = Signing is paused because of a clock or log fault.
error-service-not-signing-do = Your document is untouched. We'll mail you.
