// Package seal encrypts what a workload is made of and what it leaves behind:
// content under one key a workload, and that key for whoever is to run it.
//
// # Keys
//
// The content key of a workload is derived from its owner's key and a random
// salt in its spec (Derive, HKDF-SHA256, RFC 5869), so the owner's node has it
// whenever it is up and never writes it down. A Key lies in one locked page of
// memory that core dumps leave out, and is overwritten when it is closed. What
// the standard library makes of it (key schedules, the recipient's private key)
// lies on the Go heap for as long as it is used.
//
// # Content
//
// Encrypt and Decrypt are streams in the STREAM construction (Hoang,
// Reyhanitabar, Rogaway and Vizár, "Online Authenticated-Encryption and its
// Nonce-Reuse Misuse-Resistance", CRYPTO 2015), as age uses it: chunks of 64 KiB
// under AES-256-GCM with a nonce of a counter and a flag on the last one, so
// that chunks cannot be left out, doubled, swapped or cut off. Each stream has a
// key of its own, derived from the content key, 16 random bytes and what the
// content is (a context), so that one cannot be shown as another.
//
// # Release
//
// A Recipient is a key pair made for one attempt. Wrap encrypts a content key,
// or a share of it, to that public key by HPKE (RFC 9180, MLKEM768-X25519, which
// also holds against a quantum computer), bound to who releases what to whom for
// which slot (Binding). Split and Combine are Shamir's secret sharing ("How to
// Share a Secret", CACM 22, 1979) over GF(2^8).
package seal
