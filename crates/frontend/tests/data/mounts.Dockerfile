FROM golang AS tools
FROM alpine
WORKDIR /src
RUN --mount=target=. --mount=type=cache,target=/c,id=x,sharing=locked,uid=7 one
RUN --mount=from=tools,source=/bin,target=/t,rw --mount=type=tmpfs,target=/m,size=64m two
RUN --mount=type=secret,id=s,env=TOKEN --mount=type=secret,id=f,target=/f,required three $TOKEN
RUN --mount=type=ssh,mode=0666 --network=none --security=insecure four
