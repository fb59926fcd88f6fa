# The two commands of the project; what they do stands in the scripts.

.PHONY: test release

test:
	scripts/test.sh

# Into target/dist: static binary with its papers, Debian package, SBOM, checksums.
release:
	scripts/release.sh
