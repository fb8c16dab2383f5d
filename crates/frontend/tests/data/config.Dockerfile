FROM alpine
LABEL a="b c" d='<e>&'
ENV PATH=/x:$PATH
EXPOSE 80 53/udp 7000-7001
VOLUME /data ["/more"]
USER me:us
WORKDIR /w
STOPSIGNAL SIGINT
SHELL ["/bin/bash", "-c"]
HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f http://x
ENTRYPOINT ["/entry", "a\"b"]
CMD shell form $HOME
ONBUILD RUN later
MAINTAINER me
