# The proxy of deploy/nginx.conf in a container, beside one of deploy/Dockerfile: docs/containers.md.
#
#   docker build -f deploy/proxy.Dockerfile -t d2serve-proxy .
#
# The two share the network's loopback address and /tmp, where TorchServe's tokens are, and run as the same
# user. What this one alone needs is mounted at /run/secrets/d2serve: tls.crt, tls.key, clients.map, origins.map.

# As in deploy/Dockerfile, a digest may be named: --build-arg BASE=debian:bookworm-slim@sha256:...
ARG BASE=debian:bookworm-slim
FROM ${BASE}

SHELL ["/bin/sh", "-e", "-u", "-c"]
# Debian's nginx and its module are of one version, and get security updates only: none is named here.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends nginx libnginx-mod-http-lua \
    && rm -rf /var/lib/apt/lists/*

COPY deploy/nginx /etc/nginx/d2serve
COPY deploy/container.conf /etc/nginx/d2serve/
COPY deploy/nginx.conf /etc/nginx/nginx.conf
# What is otherwise in a container: an ordinary user from the start, who may listen above 1024 only and write
# to /tmp only. tests/deploy holds the file to each of these lines.
RUN sed -i \
    -e '/^user /d' \
    -e 's|^pid .*;|pid /tmp/nginx.pid;|' \
    -e 's|^error_log .*;|error_log stderr;|' \
    -e 's|access_log /var/log/nginx/access.log |access_log /dev/stdout |' \
    -e 's|/var/lib/d2serve/key_file.json|/tmp/key_file.json|' \
    -e 's|listen 443 ssl|listen 8443 ssl|' \
    -e 's|server_name .*;|server_name _;|' \
    -e '$ s|^}$|  include d2serve/container.conf;\n}|' \
    /etc/nginx/nginx.conf \
    && for file in tls.crt tls.key clients.map origins.map; do \
        ln -s "/run/secrets/d2serve/$file" "/etc/nginx/d2serve/$file"; done

WORKDIR /tmp
USER 10001:10001
EXPOSE 8443 9082
# Not SIGTERM, at which nginx drops what it is answering.
STOPSIGNAL SIGQUIT
ENTRYPOINT ["nginx", "-e", "stderr", "-g", "daemon off;"]
