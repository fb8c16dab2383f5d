# escape=`
FROM --platform=windows/amd64 mcr.example/server
SHELL ["powershell", "-Command"]
WORKDIR C:\app
COPY a b\ 
RUN Do-It `
    -Well
