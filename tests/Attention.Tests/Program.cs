using Attention.Tests;
using Microsoft.Testing.Platform.Builder;

// The suite; or, as `child SCENARIO …`, a process that a test needs apart from its own.
if (args is ["child", var scenario, .. var rest])
{
    return Child.Run(scenario, rest);
}
ITestApplicationBuilder builder = await TestApplication.CreateBuilderAsync(args);
SelfRegisteredExtensions.AddSelfRegisteredExtensions(builder, args);
using ITestApplication suite = await builder.BuildAsync();
return await suite.RunAsync();
