"""The sealed log's constants and cryptographic primitives (LOG): what its writer and its readers share.

* `layout`   sizes, magics, labels, names (README.md beside it is the whole format in words)
* `suites`   suite 1 (X25519, AES-256-GCM, SHA-256, Ed25519) and suite 2 (SM2, SM4-GCM, SM3)

Writer (`agent.recorder.sealed`) and reader (`agent.audit`) share nothing else, so that an error of one is
seen by the other.
"""
