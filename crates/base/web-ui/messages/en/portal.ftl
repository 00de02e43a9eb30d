# Texts of the portal surface. The other language has the same ids.
info-description = A remote signature service: it keeps signers' keys and signs only what each signer approves.
portal-nav-keys = Keys
portal-next = Next
portal-login = Log in
portal-logout = Log out
portal-login-title = Log in
portal-login-name = Login name
portal-password = Password
portal-code = One-time code
portal-code-hint = The six digits in your authenticator app.
portal-login-signs-nothing = Logging in signs nothing.
portal-login-to-sign = "{ $app }" asks for a signature. After logging in you see what would be signed.
portal-login-to-read = "{ $app }" asks for the list of your keys and certificates. Logging in gives it that list. It can't sign with it.
portal-login-wrong = Login name, password or one-time code is wrong. Enter all three again. A code works only once.
portal-login-wait = { $n ->
    [one] Too many wrong tries for this login name. Try again in about a minute.
   *[other] Too many wrong tries for this login name. Try again in about { $n } minutes.
}
portal-home-title = Remote signatures
portal-home-text = We keep your key, and it signs only when you approve.
portal-home-invited = New here? Start from the link in your invitation.
portal-consent-title = Check: { $app }
portal-consent-heading = Share your list of keys?
portal-consent-app = Application
portal-consent-gets = It gets
portal-consent-what = The list of your keys and certificates, with the name in them
portal-consent-limits = To sign, the application needs your approval every time.
portal-consent-yes = Share
portal-consent-no = Decline
portal-undecided-title = Neither approved nor declined yet
portal-undecided-text = Look at what would be signed, then approve or decline. Nothing was signed.
portal-undecided-again = See what would be signed
portal-keys-title = Keys and certificates
portal-keys-none = Your keys and certificates will appear here.
portal-keys-begin = Set up how you approve
portal-keys-finish = A key has no certificate yet.
portal-keys-finish-do = Go on with issuing it
portal-key-pending = Waiting for its certificate
portal-key-active = Ready to use
portal-key-suspended = Stopped
portal-key-expired = The certificate has expired
portal-key-issuer = Issuer
portal-key-until = Valid until
portal-key-left = { $n ->
    [one] one day left
   *[other] { $n } days left
}
portal-key-level = Level
portal-key-origin = Origin
portal-key-origin-software = Made by the provider without an evaluated device, and kept safely at the provider only.
portal-key-origin-hsm = Made in an HSM. No copy exists outside the provider's HSMs and their sealed backups.
portal-key-origin-ca = Made by a certification authority and sent to the provider only.
portal-key-origin-copies = Made elsewhere and brought here: copies may exist outside the provider.
portal-key-made = Made on
portal-key-id = Key number
portal-level-generation = Level { $n }, because of how the key was made.
portal-level-import = Level { $n }, because of how the key was deposited.
portal-level-retention = Level { $n }, because of how the key is kept.
portal-level-authorization = Level { $n }, because of how signatures are approved.
portal-level-enrolment = Level { $n }, because of the identity check.
portal-level-service = Level { $n }, the highest that this service offers.
portal-level-declared = Declared by the operator, not provable by software:
portal-level-3-needs = Level 3 needs: an evaluated HSM, an evaluated device-bound passkey, and enrolment in person.
portal-invitation-title = Invitation to set up signing
portal-invitation-by = Invited by
portal-invitation-for = For
portal-invitation-check = Identity check
portal-invitation-check-mail = Mail address only
portal-invitation-check-ra = Done by the registration authority
portal-invitation-until = Valid until
portal-invitation-text = We'll make a key of your own. It takes about three minutes. Have a phone with an authenticator app ready.
portal-invitation-begin = Begin
portal-invitation-known = Log in and go on
portal-invitation-not-me = Not you? Close this page. Nothing is made.
portal-step-account = Login
portal-step-app = Authenticator app
portal-step-approval = How you approve
portal-step-1 = Step 1 of 3
portal-step-2 = Step 2 of 3
portal-step-3 = Step 3 of 3
portal-account-title = Choose a login name and password
portal-account-name-hint = Lower-case letters, digits and . _ - @. Your mail address is fine.
portal-account-password-hint = 8 characters or more. Longer is safer.
portal-account-again = Password again
portal-account-bad-name = The login name has characters that can't be used. Use lower-case letters, digits and . _ - @, at most 64.
portal-account-bad-password = The password must have 8 to 128 characters and differ from the login name.
portal-account-differ = The two passwords differ. Enter them again.
portal-account-taken = This login name is taken. Choose another.
portal-app-title = Add it to your authenticator app
portal-app-text = This is for logging in. Scan the picture with your authenticator app, then enter the six digits it shows.
portal-app-qr = Picture to scan with the authenticator app
portal-app-by-hand = If you can't scan it, type these characters into the app.
portal-app-wrong = The one-time code is wrong. Enter the digits the app shows now. If they still don't fit, set date and time of your device to automatic.
portal-app-next = Next, on a page of another site, you set up how you approve signatures. It comes back here by itself.
portal-letter-title = Open the link from the registration authority
portal-letter-text = Setting up how you approve starts from the link or QR code that the registration authority gave you directly.
portal-letter-warning = Nobody will ask you for what is in that link, neither on this site nor by telephone.
portal-trouble-request = The application's request has a mistake in it.
portal-trouble-request-do = Go back to the application and try again. If it goes on, tell the application's provider.
portal-trouble-link = The link has expired.
portal-trouble-link-do = Start again from the application or the mail. Nothing was signed.
portal-trouble-used = This link was used already.
portal-trouble-used-do = Go back to the application, or see the result under Keys.
portal-trouble-form = We couldn't tell that this was sent from our own page.
portal-trouble-form-do = Allow cookies in your browser and start again from the first page. Nothing was changed.
portal-trouble-not-now = The service can't answer right now.
portal-trouble-not-now-do = Wait a little and load this page again. Nothing is lost.
portal-trouble-often = Too many requests came from your network.
portal-trouble-often-do = Wait a minute and load this page again. Nothing is lost.
portal-trouble-refused = The registration authority declined to issue the certificate.
portal-trouble-refused-do = Check the registered name and other data with the registration authority.
portal-trouble-internal = Something broke on our side.
portal-trouble-internal-do = Wait a little and try again. If it goes on, tell the operator.
portal-nav-security = Login settings
portal-login-again = To change how you log in, log in once more.
portal-login-otherwise = With login name and password
portal-passkey-log-in = Log in with a passkey
portal-passkey-hint = With this device's face, fingerprint or screen lock. No login name needed.
portal-passkey-refused = This passkey didn't log you in. Try again, or use login name, password and one-time code.
portal-passkey-cancelled = You aren't logged in with it yet. To go on, press the button again.
portal-passkey-impossible = Passkeys can't be used in this browser. Use the other way, or open this page in Safari or Chrome.
portal-passkey-later = Getting ready. Wait a moment.
portal-passkey-again = Ready. Press the button again.
portal-passkey-known = This device has a passkey for logging in here already.
portal-passkey-user = { $name } (login)
portal-passkey-make = Create a passkey for logging in
portal-passkey-two = The passkey for approving signatures is another one, kept for the approval page. This one signs nothing.
portal-passkey-name = Name
portal-passkey-name-hint = So that you can tell them apart, such as "iPhone".
portal-passkey-name-default = Passkey
portal-passkey-made = Made on
portal-passkey-used = Last used
portal-passkey-unused = Not yet
portal-passkey-kept = Kept
portal-passkey-synced = Can be synced to your other devices
portal-passkey-bound = On this one device only
portal-passkey-rename = Rename
portal-passkey-rename-do = Change the name
portal-passkey-remove = Remove
portal-passkey-remove-text = You can no longer log in with it. Login name, password and one-time code go on working.
portal-passkey-remove-do = Remove this passkey
portal-passkeys-title = Passkeys for logging in
portal-passkeys-text = Log in with your device's face, fingerprint or screen lock instead of password and one-time code.
portal-passkeys-none = Your login passkeys will appear here.
portal-passkeys-off = This site's address can't have passkeys. Log in with password and one-time code.
portal-passkeys-recent = To add, rename or remove a passkey, log in once more.
portal-passkeys-recent-do = Log in again
portal-passkeys-full = There are ten already. Remove one before adding another.
portal-passkeys-noscript = Creating a passkey needs JavaScript.
portal-first-passkey-title = Log in with a passkey from now on?
portal-first-passkey-text = With a passkey you log in by this device's face, fingerprint or screen lock. They stay in the device.
portal-first-passkey-later = You can do this later too, under Login settings.
portal-first-passkey-skip = Go on without
portal-security-title = Login settings
portal-sessions-title = Where you are logged in
portal-sessions-only = Only here.
portal-sessions-others = { $n ->
    [one] Here and in one more browser.
   *[other] Here and in { $n } more browsers.
}
portal-sessions-limits = A login ends after 30 minutes without use, and after 8 hours in any case.
portal-sessions-end = Log out everywhere else
portal-trouble-passkey = The passkey couldn't be added.
portal-trouble-passkey-do = Go back to Login settings and try again. Nothing was changed.
portal-passkeys-add = Add a passkey
portal-factor-collected = PIN and one-time codes that applications collect

## Requests of applications without a browser

portal-nav-requests = Requests
portal-requests-title = Requests to sign
portal-requests-lead = Applications that ask for your signature without a browser wait here for your decision. You see what will be signed on the next page, and decide there.
portal-requests-none = Nothing waits for you.
portal-requests-hint = Nobody should call or write to make you approve something here. If you refuse an application three times within a day, it isn't heard for a day.
portal-request-asked = Asked { $time }
portal-request-until = waits until { $time }
portal-request-look = Look and decide
portal-request-open = You have not decided yet.
portal-request-approved = You approved. The application can go on.
portal-request-refused = You refused. Nothing will be signed.
portal-request-over = This request has ended.
portal-request-count = { $n ->
    [one] one item
   *[other] { $n } items
}

## Devices whose user logs in elsewhere

portal-device-title = Connect a device
portal-device-lead = Type the code that your device shows.
portal-device-code = Code
portal-device-hint = Go on only if you began this yourself, on a device in front of you. Whoever sends you a code wants to act in your name.
portal-device-go = Continue
portal-device-wrong = No device waits for this code. It may have run out: begin anew on the device.
portal-device-approved = Done. Your device goes on by itself; you can close this page.
portal-device-denied = Your device was refused. Nothing was given to it.

## Certificates and identities elsewhere

portal-certificate-log-in = Log in with a certificate
portal-certificate-hint = With a card or device whose certificate you registered here, such as the user authentication certificate of an Individual Number Card.
portal-certificate-missing = No certificate was shown. Insert the card and try again.
portal-certificate-untrusted = Certificates of this issuer can't be used here.
portal-certificate-time = This certificate isn't valid at this time.
portal-certificate-purpose = This certificate isn't for logging in. Choose the one for user authentication, not the one for signing.
portal-certificate-revoked = This certificate has been revoked.
portal-certificate-unclear = Whether this certificate has been revoked can't be found out now. Wait a little, or log in another way.
portal-certificate-unknown = This certificate isn't registered here. Log in another way and register it under Login settings.
portal-certificate-do = Go back to Login settings and try again. Nothing was changed.
portal-certificate-name-default = Certificate
portal-certificate-add = Register a certificate
portal-certificate-add-do = Choose a certificate and register it
portal-links-title = Logging in with certificates and the like
portal-links-text = You can log in with what you register here. It is never used to approve a signature. After renewing a card, register its new certificate.
portal-links-recent = To register or remove one, log in once more.
portal-links-full = There are ten already. Remove one before registering another.
portal-link-what = Content
portal-link-made = Registered on
portal-link-remove-text = You can no longer log in with it. Logins elsewhere end too.
portal-link-remove-do = Remove it
portal-trouble-bound = It couldn't be registered: it is registered already, or there are too many.
portal-trouble-bound-do = See Login settings. What is registered for somebody else can't be registered before they remove it.
portal-provider-log-in = Log in with your account at
portal-provider-add = Register your account at
portal-provider-unreachable = That site can't be reached now. Wait a little, or log in another way.
portal-provider-declined = The login at that site was given up.
portal-provider-assurance = How you proved who you are at that site isn't strong enough here. Log in there in a stronger way.
portal-provider-refused = The answer of that site couldn't be verified. Try again.
portal-provider-unknown = Your account at that site isn't registered here. Log in another way and register it under Login settings.
portal-leaving-title = On to { $name }
portal-leaving-text = You log in at another site. When you are done you come back here by yourself.
portal-leaving-do = If nothing happens, go on here
portal-factor-idp = Proof at another site

## What is published about the service

portal-about-title = About this service
portal-about-conformity = What it claims
portal-about-guideline = JT2A Remote Signature Guideline, version 1 (2020)
portal-about-level = Highest level of a key: { $n }
portal-about-level-hint = The level says how a key is made, kept and authorized. Each key shows its own and why it isn't higher.
portal-about-documents = Read before you use it
portal-about-service-policy = Service policy
portal-about-practice-statement = Practice statement
portal-about-terms-of-use = Terms of use
portal-about-version = Version
portal-about-contact = Contact
portal-duties-title = What is expected of signers
portal-duty-1 = Apply with true information only.
portal-duty-2 = Keep your ways to log in and to approve to yourself. If one is lost or seen by others, stop your keys here at once and tell us.
portal-duty-3 = If you or somebody for you brings in a key, look after it and every copy of it.
portal-duty-4 = Ask for revocation without delay when your registered details change or a key may be in other hands.
portal-account-terms = I accept the terms of use
portal-account-terms-needed = Read the terms of use and tick the box to go on. What you typed is kept, except the password.
