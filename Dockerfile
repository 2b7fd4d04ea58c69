# The image of one instance: the binary on a base without shell or package manager, as a user
# without rights. Takes BuildKit and the classic builder alike (so no cache mounts, no heredocs).
# The base images are arguments; docs/adr/0016 says why these.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /build
# Backtraces keep their names; what a debugger wants is left out.
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo CARGO_INCREMENTAL=0

# The dependencies, in a layer that is built again only after a change of the manifests. Cargo needs
# a source for every target of a manifest, so each gets an empty one.
COPY Cargo.toml Cargo.lock ./
COPY crates/cli/Cargo.toml crates/cli/
COPY tests/kit/Cargo.toml tests/kit/
COPY tests/rig/Cargo.toml tests/rig/
RUN set -eu; \
    empty() { mkdir -p "$(dirname "$1")"; echo 'fn main() {}' > "$1"; }; \
    empty src/main.rs; empty src/lib.rs; empty crates/cli/src/lib.rs; \
    for bench in $(sed -n '/^\[\[bench\]\]/,/^$/s/^name = "\(.*\)"$/\1/p' Cargo.toml); do empty "benches/$bench/main.rs"; done; \
    for crate in tests/kit tests/rig; do \
        for source in $(sed -n 's/^path = "\(.*\.rs\)"$/\1/p' "$crate/Cargo.toml"); do empty "$crate/$source"; done; \
    done; \
    cargo build --release --locked --bin vx11-operator

# Embedded in the binary.
COPY clients/browser clients/browser
COPY crates crates
COPY src src
# The results of the empty sources are newer than the real ones, until these are touched.
# (`cargo clean --package` would also remove the redis crate, which has the name of a benchmark.)
RUN find crates src -type f -exec touch {} + \
    && cargo build --release --locked --bin vx11-operator

FROM ${RUNTIME_IMAGE}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vx11-operator" \
      org.opencontainers.image.description="Short-lived tokens for Server-Sent-Events streams, for clusters that may lose any one part" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /build/target/release/vx11-operator /usr/local/bin/vx11-operator
# A number, so that an orchestrator can see that it is not root. It owns nothing in the image and
# writes nothing.
USER 65532:65532
EXPOSE 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=10s --retries=3 CMD ["/usr/local/bin/vx11-operator", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/vx11-operator"]
