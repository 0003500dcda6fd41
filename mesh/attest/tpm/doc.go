// Package tpm verifies what a TPM 2.0 says: a quote over its registers, the
// chain of its endorsement key to a maker, and the logs of what was booted and
// run. It reads bytes only: no device, no clock, no network. Package collect
// asks the device.
//
// A quote is signed by an attestation key. That this key lies in the same chip
// as the endorsement key, no signature says: the chip shows it by opening a
// credential that is encrypted to the endorsement key and names the attestation
// key (TPM 2.0 part 1, section 24). So the asker sends a Challenge once, and
// remembers the pair; Expect.Activated says whether it did.
//
// Structures are those of the TPM 2.0 Library, part 2, revision 1.59, and of the
// TCG PC Client Platform Firmware Profile, revision 1.06, section 10.
package tpm
